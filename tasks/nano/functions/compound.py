def compound(amount, rate, years):
    for _ in range(years):
        amount = amount + amount * rate / 100
    return amount


def test_compound():
    assert compound(100, 10, 1) == 110
    assert compound(50, 5, 0) == 50
    assert compound(200, 50, 2) == 450
