def distance(a, b):
    return abs(a[0] - b[0]) + abs(a[1] - b[1])


def test_distance():
    assert distance((1, 2), (4, 6)) == 7
    assert distance((0, 0), (0, 0)) == 0
    assert distance((5, 1), (2, 3)) == 5
