def count_vowels(text):
    count = 0
    for letter in text.lower():
        if letter in "aeiou":
            count = count + 1
    return count


def test_count_vowels():
    assert count_vowels("Hello") == 2
    assert count_vowels("") == 0
    assert count_vowels("UAE") == 3
    assert count_vowels("sky") == 0
