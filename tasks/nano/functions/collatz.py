def collatz(n):
    steps = 0
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps = steps + 1
    return steps


def test_collatz():
    assert collatz(1) == 0
    assert collatz(6) == 8
    assert collatz(4) == 2
