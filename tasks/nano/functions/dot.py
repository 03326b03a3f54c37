def dot(left, right):
    total = 0
    for a, b in zip(left, right):
        total = total + a * b
    return total


def test_dot():
    assert dot([1, 2], [3, 4]) == 11
    assert dot([], []) == 0
    assert dot([2], [5]) == 10
