def invert(mapping):
    turned = {}
    for key, value in mapping.items():
        turned[value] = key
    return turned


def test_invert():
    assert invert({"a": 1}) == {1: "a"}
    assert invert({}) == {}
    assert invert({"x": 2, "y": 3}) == {2: "x", 3: "y"}
