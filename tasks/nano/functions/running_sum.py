def running_sum(values):
    total, sums = 0, []
    for value in values:
        total = total + value
        sums.append(total)
    return sums


def test_running_sum():
    assert running_sum([1, 2, 3]) == [1, 3, 6]
    assert running_sum([]) == []
    assert running_sum([5, -2]) == [5, 3]
