def minutes(hours, rest):
    return hours * 60 + rest


def test_minutes():
    assert minutes(2, 5) == 125
    assert minutes(0, 7) == 7
    assert minutes(1, 0) == 60
