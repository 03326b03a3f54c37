def grade(points):
    if points >= 90:
        return "A"
    if points >= 70:
        return "B"
    return "C"


def test_grade():
    assert grade(95) == "A"
    assert grade(90) == "A"
    assert grade(70) == "B"
    assert grade(69) == "C"
    assert grade(10) == "C"
