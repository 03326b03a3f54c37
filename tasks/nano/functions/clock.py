def clock(total):
    hours = total // 60
    return str(hours) + ":" + str(total % 60).zfill(2)


def test_clock():
    assert clock(125) == "2:05"
    assert clock(59) == "0:59"
    assert clock(600) == "10:00"
