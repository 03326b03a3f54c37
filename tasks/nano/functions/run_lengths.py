def run_lengths(text):
    runs = []
    for letter in text:
        if runs and runs[-1][0] == letter:
            runs[-1][1] += 1
        else:
            runs.append([letter, 1])
    return runs


def test_run_lengths():
    assert run_lengths("aab") == [["a", 2], ["b", 1]]
    assert run_lengths("") == []
    assert run_lengths("aba") == [["a", 1], ["b", 1], ["a", 1]]
