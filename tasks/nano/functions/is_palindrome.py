def is_palindrome(text):
    letters = text.lower()
    return letters == letters[::-1]


def test_is_palindrome():
    assert is_palindrome("Anna") is True
    assert is_palindrome("ab") is False
    assert is_palindrome("") is True
