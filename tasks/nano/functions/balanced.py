def balanced(text):
    depth = 0
    for letter in text:
        if letter == "(":
            depth = depth + 1
        elif letter == ")":
            depth = depth - 1
        if depth < 0:
            return False
    return depth == 0


def test_balanced():
    assert balanced("(())") is True
    assert balanced("(") is False
    assert balanced(")(") is False
    assert balanced("") is True
