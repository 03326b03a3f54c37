def diagonal(rows):
    found = []
    for index in range(len(rows)):
        found.append(rows[index][index])
    return found


def test_diagonal():
    assert diagonal([[1, 2], [3, 4]]) == [1, 4]
    assert diagonal([]) == []
    assert diagonal([[7]]) == [7]
