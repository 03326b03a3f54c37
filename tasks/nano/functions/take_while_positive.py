def take_while_positive(values):
    taken = []
    for value in values:
        if value <= 0:
            break
        taken.append(value)
    return taken


def test_take_while_positive():
    assert take_while_positive([2, 1, 0, 3]) == [2, 1]
    assert take_while_positive([-1]) == []
    assert take_while_positive([4]) == [4]
