def is_sorted(values):
    for index in range(1, len(values)):
        if values[index - 1] > values[index]:
            return False
    return True


def test_is_sorted():
    assert is_sorted([1, 2, 2]) is True
    assert is_sorted([3, 1]) is False
    assert is_sorted([]) is True
    assert is_sorted([1, 5, 4]) is False
