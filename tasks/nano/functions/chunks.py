def chunks(items, size):
    parts = []
    for start in range(0, len(items), size):
        parts.append(items[start : start + size])
    return parts


def test_chunks():
    assert chunks([1, 2, 3], 2) == [[1, 2], [3]]
    assert chunks([], 2) == []
    assert chunks([1, 2, 3, 4], 2) == [[1, 2], [3, 4]]
