def mean(values):
    if not values:
        return 0
    return sum(values) / len(values)


def test_mean():
    assert mean([1, 2, 3]) == 2
    assert mean([]) == 0
    assert mean([4, 6]) == 5
