def digit_sum(n):
    total = 0
    while n > 0:
        total = total + n % 10
        n = n // 10
    return total


def test_digit_sum():
    assert digit_sum(305) == 8
    assert digit_sum(0) == 0
    assert digit_sum(99) == 18
