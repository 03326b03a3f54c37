def to_binary(n):
    bits = ""
    while n > 0:
        bits = str(n % 2) + bits
        n = n // 2
    return bits or "0"


def test_to_binary():
    assert to_binary(5) == "101"
    assert to_binary(0) == "0"
    assert to_binary(8) == "1000"
    assert to_binary(1) == "1"
