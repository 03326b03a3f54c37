def interleave(left, right):
    mixed = []
    for a, b in zip(left, right):
        mixed.append(a)
        mixed.append(b)
    return mixed


def test_interleave():
    assert interleave([1, 2], [3, 4]) == [1, 3, 2, 4]
    assert interleave([], []) == []
    assert interleave([5], [6]) == [5, 6]
