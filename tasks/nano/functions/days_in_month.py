def days_in_month(month, leap):
    if month == 2:
        return 29 if leap else 28
    if month in (4, 6, 9, 11):
        return 30
    return 31


def test_days_in_month():
    assert days_in_month(2, True) == 29
    assert days_in_month(2, False) == 28
    assert days_in_month(4, False) == 30
    assert days_in_month(1, True) == 31
    assert days_in_month(12, False) == 31
