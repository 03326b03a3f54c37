def overlap(a, b):
    start = max(a[0], b[0])
    end = min(a[1], b[1])
    return max(0, end - start)


def test_overlap():
    assert overlap((1, 5), (3, 9)) == 2
    assert overlap((1, 2), (4, 6)) == 0
    assert overlap((0, 9), (2, 3)) == 1
