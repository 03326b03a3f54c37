def longest_word(text):
    longest = ""
    for word in text.split():
        if len(word) > len(longest):
            longest = word
    return longest


def test_longest_word():
    assert longest_word("a red fox") == "red"
    assert longest_word("") == ""
    assert longest_word("to be") == "to"
