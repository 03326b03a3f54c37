def unique(items):
    seen = []
    for item in items:
        if item not in seen:
            seen.append(item)
    return seen


def test_unique():
    assert unique([1, 2, 1]) == [1, 2]
    assert unique([]) == []
    assert unique([3, 3, 2]) == [3, 2]
