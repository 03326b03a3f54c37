def second_largest(values):
    ordered = sorted(set(values))
    if len(ordered) < 2:
        return None
    return ordered[-2]


def test_second_largest():
    assert second_largest([3, 9, 4]) == 4
    assert second_largest([5, 5]) is None
    assert second_largest([1, 2]) == 1
