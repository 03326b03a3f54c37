def group_by_length(words):
    groups = {}
    for word in words:
        groups.setdefault(len(word), []).append(word)
    return groups


def test_group_by_length():
    assert group_by_length(["a", "bc", "d"]) == {1: ["a", "d"], 2: ["bc"]}
    assert group_by_length([]) == {}
