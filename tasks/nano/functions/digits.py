def digits(n):
    found = []
    while n > 0:
        found.append(n % 10)
        n = n // 10
    return found[::-1]


def test_digits():
    assert digits(305) == [3, 0, 5]
    assert digits(7) == [7]
    assert digits(0) == []
