def factorial(n):
    result = 1
    for factor in range(2, n + 1):
        result = result * factor
    return result


def test_factorial():
    assert factorial(0) == 1
    assert factorial(5) == 120
    assert factorial(3) == 6
    assert factorial(1) == 1
