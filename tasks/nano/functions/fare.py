def fare(distance, child):
    price = 2 + distance * 3
    if child:
        price = price / 2
    return price


def test_fare():
    assert fare(4, False) == 14
    assert fare(4, True) == 7
    assert fare(0, False) == 2
