def power(base, exponent):
    result = 1
    for _ in range(exponent):
        result = result * base
    return result


def test_power():
    assert power(2, 5) == 32
    assert power(7, 0) == 1
    assert power(3, 1) == 3
    assert power(3, 3) == 27
