def from_binary(bits):
    value = 0
    for bit in bits:
        value = value * 2 + int(bit)
    return value


def test_from_binary():
    assert from_binary("101") == 5
    assert from_binary("0") == 0
    assert from_binary("1000") == 8
