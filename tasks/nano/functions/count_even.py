def count_even(values):
    count = 0
    for value in values:
        if value % 2 == 0:
            count = count + 1
    return count


def test_count_even():
    assert count_even([1, 2, 4]) == 2
    assert count_even([]) == 0
    assert count_even([3, 5]) == 0
    assert count_even([6]) == 1
