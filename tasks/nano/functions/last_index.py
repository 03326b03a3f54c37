def last_index(items, wanted):
    for index in range(len(items) - 1, -1, -1):
        if items[index] == wanted:
            return index
    return -1


def test_last_index():
    assert last_index([4, 5, 4], 4) == 2
    assert last_index([4], 9) == -1
    assert last_index([7, 8], 7) == 0
