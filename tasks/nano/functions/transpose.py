def transpose(rows):
    columns = []
    for index in range(len(rows[0])):
        columns.append([row[index] for row in rows])
    return columns


def test_transpose():
    assert transpose([[1, 2], [3, 4]]) == [[1, 3], [2, 4]]
    assert transpose([[5, 6]]) == [[5], [6]]
