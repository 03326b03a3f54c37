def merge(left, right):
    merged = []
    while left and right:
        if left[0] <= right[0]:
            merged.append(left[0])
            left = left[1:]
        else:
            merged.append(right[0])
            right = right[1:]
    return merged + left + right


def test_merge():
    assert merge([1, 3], [2]) == [1, 2, 3]
    assert merge([], [1]) == [1]
    assert merge([4], []) == [4]
    assert merge([1], [5, 6]) == [1, 5, 6]
