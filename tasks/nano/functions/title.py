def title(text):
    words = []
    for word in text.split():
        words.append(word[0].upper() + word[1:])
    return " ".join(words)


def test_title():
    assert title("red fox") == "Red Fox"
    assert title("") == ""
    assert title("a bc") == "A Bc"
