def insertion_point(values, wanted):
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) // 2
        if values[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low


def test_insertion_point():
    assert insertion_point([1, 3, 5], 3) == 1
    assert insertion_point([1, 3, 5], 6) == 3
    assert insertion_point([], 1) == 0
    assert insertion_point([2, 4], 1) == 0
    assert insertion_point([2, 4], 3) == 1
