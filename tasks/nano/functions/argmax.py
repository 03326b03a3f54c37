def argmax(values):
    best = 0
    for index in range(1, len(values)):
        if values[index] > values[best]:
            best = index
    return best


def test_argmax():
    assert argmax([3, 9, 4]) == 1
    assert argmax([5]) == 0
    assert argmax([2, 2]) == 0
    assert argmax([1, 2, 8]) == 2
    assert argmax([6, 1, 2]) == 0
