"""Answers survive the process that asked."""

from pathlib import Path

from swe_aem.selection.answers import FILE, digest_of, opened


def test_answers_are_there_again_and_a_torn_line_is_asked_again(tmp_path: Path) -> None:
    with opened(tmp_path) as answers:
        answers.add("a", "tests", ["x"])
        answers.add("b", "verifier", 0.25)
        assert answers.asked == 2
    with (tmp_path / FILE).open("a") as file:
        file.write('{"key": "c", "kind": "verif')
    with opened(tmp_path) as answers:
        assert (answers["a"], answers["b"], "c" in answers, answers.asked) == (["x"], 0.25, False, 0)
        answers.add("c", "verifier", 0.5)
    with opened(tmp_path) as answers:
        assert [answers[key] for key in "abc"] == [["x"], 0.25, 0.5]


def test_a_key_depends_on_every_part() -> None:
    assert digest_of("a", 1) == digest_of("a", 1)
    assert len({digest_of("a", 1), digest_of("a", 2), digest_of("a1"), digest_of("a", [1])}) == 4
