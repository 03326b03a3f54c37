def shift_letter(letter, steps):
    if not letter.islower():
        return letter
    return chr((ord(letter) - 97 + steps) % 26 + 97)


def test_shift_letter():
    assert shift_letter("a", 2) == "c"
    assert shift_letter("z", 1) == "a"
    assert shift_letter("!", 3) == "!"
    assert shift_letter("b", 0) == "b"
