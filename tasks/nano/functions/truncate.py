def truncate(text, width):
    if len(text) <= width:
        return text
    return text[: width - 1] + "~"


def test_truncate():
    assert truncate("abcdef", 4) == "abc~"
    assert truncate("ab", 4) == "ab"
    assert truncate("abcd", 4) == "abcd"
