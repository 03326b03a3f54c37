"""Choosing tasks, splitting by repository, and what an evaluation set would know."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from swe_aem.core import TaskRecord
from swe_aem.errors import UserError
from swe_aem.tasks import TaskSet, load_tasks
from swe_aem.tasks.decontaminate import contaminated
from swe_aem.tasks.select import Selection, ids_text, read_ids, select, split_by_repository

MICRO = load_tasks("micro")
MODEL = MICRO.records[0]


def record(id: str, repo: str = "a/b", text: str = "some problem") -> TaskRecord:
    task = MODEL.task.model_copy(update={"id": id, "repo": repo, "problem_statement": text})
    return MODEL.model_copy(update={"task": task, "key": MODEL.key.model_copy(update={"task_id": id})})


def tasks(*records: TaskRecord, labels: dict | None = None) -> TaskSet:
    return replace(MICRO, records=records, labels=labels or {})


SET = tasks(
    record("one", "django/django"),
    record("two", "django/channels"),
    record("three", "sympy/sympy"),
    labels={"one": {"difficulty": "1-4 hours"}, "three": {"difficulty": "<15 min"}},
)


@pytest.mark.parametrize(
    ("selection", "given_too", "kept"),
    [
        (Selection(), {}, ["one", "two", "three"]),
        (Selection(repos=("django/*",)), {}, ["one", "two"]),
        (Selection(repos=("django/*",), not_repos=("*/channels",)), {}, ["one"]),
        (Selection(difficulties=("<15 min",)), {}, ["three"]),
        (Selection(solve_rate=(0.1, 0.9)), {"solve_rates": {"one": 0.0, "two": 0.5}}, ["two"]),
        (Selection(), {"only": {"three", "one"}}, ["one", "three"]),
        (Selection(), {"without": {"two": "known"}}, ["one", "three"]),
    ],
)
def test_conditions(selection: Selection, given_too: dict, kept: list[str]) -> None:
    chosen, reasons = select(SET, selection, **given_too)
    assert [one.task.id for one in chosen] == kept
    assert sum(reasons.values()) == 3 - len(kept)


def test_a_sample_is_the_same_for_the_same_seed_and_keeps_the_order() -> None:
    first, _ = select(MICRO, Selection(sample=20, seed=1))
    again, _ = select(MICRO, Selection(sample=20, seed=1))
    other, _ = select(MICRO, Selection(sample=20, seed=2))
    assert first.records == again.records != other.records
    order = {one.task.id: number for number, one in enumerate(MICRO)}
    places = [order[one.task.id] for one in first]
    assert places == sorted(places)


def test_a_rate_range_must_be_one() -> None:
    with pytest.raises(ValueError, match="not a range"):
        Selection(solve_rate=(0.9, 0.1))


@given(st.lists(st.integers(1, 30), min_size=2, max_size=12), st.floats(0.05, 0.5), st.integers(0, 9))
def test_no_repository_is_on_both_sides(sizes: list[int], heldout: float, seed: int) -> None:
    every = tasks(*(record(f"{repo}-{n}", f"r/{repo}") for repo, size in enumerate(sizes) for n in range(size)))
    try:
        train, held = split_by_repository(every, heldout, seed)
    except UserError:
        return
    assert not {one.task.repo for one in train} & {one.task.repo for one in held}
    assert len(train) + len(held) == len(every)
    assert abs(len(held) - heldout * len(every)) <= max(sizes)


def test_one_repository_cannot_be_split() -> None:
    with pytest.raises(UserError, match="1 repositories cannot be split"):
        split_by_repository(tasks(record("x"), record("y")), 0.5, 0)


def test_files_of_ids(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text(ids_text(SET, "all of them") + "\n  four  # by hand\n")
    assert read_ids(path) == ("one", "two", "three", "four")
    path.write_text("# nothing\n")
    with pytest.raises(UserError, match="holds no ids"):
        read_ids(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_ids(tmp_path / "none")


# -- decontamination --------------------------------------------------------------------------------------------------

TEXTS = [one.task.problem_statement for one in MICRO.records[::60]]


def only_texts(text: str, *others: str) -> list:
    evaluation = [record(f"e{n}", "eval/repo", other) for n, other in enumerate(others)]
    return contaminated([record("t", "train/repo", text)], evaluation)


def test_a_repository_of_the_evaluation_set() -> None:
    (found,) = contaminated([record("t", "Eval/Repo")], [record("e", "eval/repo", "another text")])
    assert (found.kind, found.other) == ("repository", "Eval/Repo")
    assert contaminated([record("t", "a/b", "x")], [record("e", "a/b", "y")], by_repository=False) == []


@pytest.mark.parametrize("text", TEXTS)
def test_another_format_is_the_same_text(text: str) -> None:
    changed = "## " + text.upper().replace("\n", " \n\n* ").replace("`", "'")
    assert only_texts(changed, *TEXTS)[0].kind == "same text"


@given(st.sampled_from(TEXTS), st.integers(0, 1000))
def test_an_edited_or_longer_text_is_near(text: str, seed: int) -> None:
    generator = random.Random(seed)
    words = text.split()
    words[generator.randrange(len(words))] = "changed"
    edited = " ".join(["Hello, a bug report.", *words, "Please mend it soon, and thank you for the package."])
    (found,) = only_texts(edited, text)
    assert found.kind in ("near text", "same text")
    assert found.other == "e0"


def test_other_texts_are_not_near() -> None:
    assert only_texts("The cache forgets entries when two of them expire in the same second.", *TEXTS) == []
    assert only_texts("", *TEXTS) == []


# -- as a user --------------------------------------------------------------------------------------------------------


def run(*words: str | Path) -> tuple[int, str, str]:
    from swe_aem.cli.tasks import app

    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def test_what_is_chosen_is_what_a_rollout_takes(tmp_path: Path) -> None:
    from swe_aem.rollout import RolloutConfig, chosen_tasks

    out = tmp_path / "ids.txt"
    code, said, left_out = run("select", "--repo", "micro/almanac", "--sample", "7", "--out", out)
    assert (code, said) == (0, f"{out}: 7 of 756 tasks\n")
    assert "693  left out: another repository" in left_out
    assert len(chosen_tasks(RolloutConfig(tasks="micro", ids=read_ids(out)))) == 7


def test_training_on_what_is_evaluated_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no task of micro is left"):
        run("select", "--against", "micro", "--out", tmp_path / "ids.txt")
    _, _, said = run(
        "select", "--against", "micro", "--against-split", "heldout", "--texts-only", "--out", tmp_path / "x"
    )
    assert "contaminated (same text)" in said


def test_split_writes_two_files(tmp_path: Path) -> None:
    run("split", "--heldout", "0.25", "--out", tmp_path)
    sides = [
        Counter(id.partition("-")[0] for id in read_ids(tmp_path / f"{name}.txt")) for name in ("train", "heldout")
    ]
    assert not sides[0].keys() & sides[1].keys()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--solve-rate", "0.1:0.9"], "give both or none"),
        (["--solve-rate", "x", "--run", "r"], "expected LOW:HIGH"),
        (["--only", "nowhere"], "cannot be read"),
    ],
)
def test_wrong_input_names_the_fix(words: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        run("select", *words, "--out", tmp_path / "ids.txt")
