def initials(name):
    letters = []
    for word in name.split():
        letters.append(word[0].upper())
    return "".join(letters)


def test_initials():
    assert initials("ada lovelace") == "AL"
    assert initials("") == ""
    assert initials("max") == "M"
