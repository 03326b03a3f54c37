def center(text, width):
    missing = max(0, width - len(text))
    left = missing // 2
    return " " * left + text + " " * (missing - left)


def test_center():
    assert center("ab", 5) == " ab  "
    assert center("abc", 2) == "abc"
    assert center("a", 3) == " a "
