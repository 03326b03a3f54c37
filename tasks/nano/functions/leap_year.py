def leap_year(year):
    if year % 400 == 0:
        return True
    return year % 4 == 0 and year % 100 != 0


def test_leap_year():
    assert leap_year(2000) is True
    assert leap_year(1900) is False
    assert leap_year(2024) is True
    assert leap_year(2023) is False
