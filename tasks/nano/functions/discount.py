def discount(price, percent):
    if percent > 100:
        percent = 100
    return price - price * percent / 100


def test_discount():
    assert discount(80, 25) == 60
    assert discount(50, 0) == 50
    assert discount(40, 200) == 0
