def clamp(value, low, high):
    if value < low:
        return low
    if value > high:
        return high
    return value


def test_clamp():
    assert clamp(1, 3, 5) == 3
    assert clamp(9, 3, 5) == 5
    assert clamp(4, 3, 5) == 4
    assert clamp(3, 3, 5) == 3
    assert clamp(5, 3, 5) == 5
