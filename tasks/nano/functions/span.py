def span(values):
    if not values:
        return 0
    return max(values) - min(values)


def test_span():
    assert span([4, 9, 1]) == 8
    assert span([]) == 0
    assert span([3]) == 0
