def sign(number):
    if number > 0:
        return 1
    if number < 0:
        return -1
    return 0


def test_sign():
    assert sign(7) == 1
    assert sign(-3) == -1
    assert sign(0) == 0
    assert sign(1) == 1
