def rotate(items, steps):
    if not items:
        return []
    cut = steps % len(items)
    return items[cut:] + items[:cut]


def test_rotate():
    assert rotate([1, 2, 3], 1) == [2, 3, 1]
    assert rotate([], 2) == []
    assert rotate([1, 2], 3) == [2, 1]
    assert rotate([1, 2, 3], 0) == [1, 2, 3]
