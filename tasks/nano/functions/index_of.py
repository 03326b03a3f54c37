def index_of(items, wanted):
    for index in range(len(items)):
        if items[index] == wanted:
            return index
    return -1


def test_index_of():
    assert index_of([4, 5, 6], 5) == 1
    assert index_of([4], 9) == -1
    assert index_of([7, 8], 7) == 0
