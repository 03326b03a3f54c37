def flatten(rows):
    flat = []
    for row in rows:
        for item in row:
            flat.append(item)
    return flat


def test_flatten():
    assert flatten([[1], [2, 3]]) == [1, 2, 3]
    assert flatten([]) == []
    assert flatten([[], [4]]) == [4]
