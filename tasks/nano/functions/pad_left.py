def pad_left(text, width):
    while len(text) < width:
        text = " " + text
    return text


def test_pad_left():
    assert pad_left("ab", 4) == "  ab"
    assert pad_left("abc", 2) == "abc"
    assert pad_left("a", 2) == " a"
