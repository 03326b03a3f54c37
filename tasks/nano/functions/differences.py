def differences(values):
    steps = []
    for index in range(1, len(values)):
        steps.append(values[index] - values[index - 1])
    return steps


def test_differences():
    assert differences([1, 4, 9]) == [3, 5]
    assert differences([7]) == []
    assert differences([5, 2]) == [-3]
