def count_words(text):
    counts = {}
    for word in text.split():
        counts[word] = counts.get(word, 0) + 1
    return counts


def test_count_words():
    assert count_words("a b a") == {"a": 2, "b": 1}
    assert count_words("") == {}
    assert count_words("x") == {"x": 1}
