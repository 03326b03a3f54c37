def gcd(a, b):
    while b != 0:
        a, b = b, a % b
    return abs(a)


def test_gcd():
    assert gcd(12, 18) == 6
    assert gcd(7, 5) == 1
    assert gcd(0, 4) == 4
    assert gcd(-8, 12) == 4
