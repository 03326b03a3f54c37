"""Predictions of every form are read, and one odd row costs one row, by name."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swe_aem.core import Outcome, Stop
from swe_aem.errors import UserError
from swe_aem.predictions import of_tasks, read_predictions
from swe_aem.store import Store
from swe_aem.tasks import TaskSet
from swe_aem.testing.builders import make_record, make_trajectory


def row(id: Any = "a", patch: Any = "p", **more: Any) -> dict[str, Any]:
    return {"instance_id": id, "model_patch": patch, "model_name_or_path": "m", **more}


def written(path: Path, content: Any) -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    return path


GOOD = [row("a", "p"), row("b", "q")]


@pytest.mark.parametrize(
    "content",
    [
        {"a": row("a", "p"), "b": row("b", "q")},
        {"a": {"model_patch": "p", "model_name_or_path": "m"}, "b": {"patch": "q", "model_name_or_path": "m"}},
        GOOD,
        "\n".join(map(json.dumps, GOOD)),
        "\n\n" + "\r\n".join(map(json.dumps, GOOD)) + "\n\n",
        "\ufeff" + json.dumps(GOOD),
    ],
)
def test_every_form_says_the_same(content: Any, tmp_path: Path) -> None:
    found, notes = read_predictions(written(tmp_path / "preds.json", content))
    assert [(one.task_id, one.sample, one.patch, one.model) for one in found] == [
        ("a", 0, "p", "m"),
        ("b", 0, "q", "m"),
    ]
    assert notes == ()


def test_an_object_may_have_patches_alone(tmp_path: Path) -> None:
    found, _ = read_predictions(written(tmp_path / "p.json", {"a": "p", "b": None}))
    assert [(one.task_id, one.patch) for one in found] == [("a", "p"), ("b", "")]


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ({"model_patch": "p"}, "row 2 (it has no instance_id)"),
        (row(7), "row 2 (its instance_id is 7)"),
        (row(""), 'row 2 (its instance_id is ""'),
        ({"instance_id": "z"}, "row 2 (z: it has no model_patch)"),
        (row("z", ["p"]), 'row 2 (z: its model_patch is ["p"], not text)'),
        (row("z", "\ud800"), "row 2 (z: its model_patch has characters that are no text)"),
        ("text", 'row 2 ("text" is no object'),
        (None, "row 2 (null is no object"),
        (row("z", sample=-1), "row 2 (z: its sample is -1"),
        (row("a", sample=0), "row 2 (a: a second prediction of sample 0)"),
    ],
)
def test_an_odd_row_costs_one_row(odd: Any, said: str, tmp_path: Path) -> None:
    found, notes = read_predictions(written(tmp_path / "p.json", [row("a"), odd, row("b")]))
    assert [one.task_id for one in found] == ["a", "b"]
    (note,) = notes
    assert "1 row is left out" in note
    assert said in note


def test_a_line_that_is_no_json_costs_one_line(tmp_path: Path) -> None:
    lines = [json.dumps(row("a")), '{"instance_id": "b", "model_pa', json.dumps(row("c"))]
    found, notes = read_predictions(written(tmp_path / "p.jsonl", "\n".join(lines)))
    assert [one.task_id for one in found] == ["a", "c"]
    assert notes == (f"{tmp_path}/p.jsonl: 1 row is left out: line 2 (it is no JSON)",)


def test_a_null_patch_is_an_empty_one_and_is_said(tmp_path: Path) -> None:
    found, notes = read_predictions(written(tmp_path / "p.json", [row("a", None), row("b", " \n"), row("c")]))
    assert [one.patch for one in found] == ["", " \n", "p"]
    assert notes == (f"{tmp_path}/p.json: 2 patches are empty, which resolves nothing: a.0, b.0",)


def test_several_predictions_for_one_task_are_its_samples(tmp_path: Path) -> None:
    found, notes = read_predictions(written(tmp_path / "p.json", [row("a", "1"), row("b", "2"), row("a", "3")]))
    assert [(one.task_id, one.sample, one.patch) for one in found] == [("a", 0, "1"), ("b", 0, "2"), ("a", 1, "3")]
    assert notes == (f"{tmp_path}/p.json: 1 task has several predictions, taken as their samples 0, 1, ...: a",)


def test_a_name_that_comes_twice_in_an_object_hides_nothing(tmp_path: Path) -> None:
    found, _ = read_predictions(written(tmp_path / "p.json", '{"a": {"model_patch": "1"}, "a": {"model_patch": "2"}}'))
    assert [(one.sample, one.patch) for one in found] == [(0, "1"), (1, "2")]


def test_predictions_for_other_tasks_are_left_out_by_name(tmp_path: Path) -> None:
    read = read_predictions(written(tmp_path / "p.json", [row("a"), row("x"), row("y"), row("x")]))
    found, notes = of_tasks(read, TaskSet("set", (make_record("a"), make_record("b"))))
    assert [one.task_id for one in found] == ["a"]
    assert "3 predictions are left out, for no chosen task of set has their id: x, y" in notes
    assert "1 of 2 tasks without a prediction: b" in notes
    _, notes = of_tasks(read, TaskSet("set", tuple(make_record(id) for id in "abcd")))
    assert notes[-1] == "predictions for 1 of 4 tasks"
    with pytest.raises(UserError, match="no prediction is for a chosen task of set: a, x, y; name their set"):
        of_tasks(read, TaskSet("set", (make_record("c"),)))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "not JSON"),
        ("diff --git a/x b/x\n", "not JSON"),
        ([], "holds no prediction that can be graded"),
        ([7], "holds no prediction that can be graded: row 1 (7 is no object"),
        ('{"a": {"model_patch": "p"', "not JSON"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_what_is_no_predictions_file_is_refused(content: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        read_predictions(written(tmp_path / "p.json", content))
    assert said in str(refused.value)


def test_a_file_that_is_not_there_says_what_may_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"takes a preds\.json, a JSONL file or a store"):
        read_predictions(tmp_path / "absent.json")
    with pytest.raises(UserError, match="is not a store"):
        read_predictions(tmp_path)


def test_a_store_gives_every_sample_that_came_to_a_patch(tmp_path: Path) -> None:
    with Store(tmp_path).writer() as writer:
        writer.append(make_trajectory("a", 0, patch="p"))
        writer.append(make_trajectory("a", 1, patch="", outcome=Outcome.EMPTY_PATCH, reward=0.0, verdict=None))
        writer.append(make_trajectory("a", 2, patch="q", stop=Stop.TURN_LIMIT, outcome=Outcome.TURN_LIMIT))
        failed = {"reward": None, "verdict": None, "error": "e"}
        writer.append(make_trajectory("b", 0, patch="", outcome=Outcome.INFRASTRUCTURE, **failed))
        writer.append(make_trajectory("b", 1, patch="r", outcome=Outcome.GRADER_FAILURE, **failed))
    found, notes = read_predictions(tmp_path)
    assert [(str(one.key), one.patch, one.stop) for one in found] == [
        ("a.0", "p", Stop.SUBMITTED),
        ("a.1", "", Stop.SUBMITTED),
        ("a.2", "q", Stop.TURN_LIMIT),
        ("b.1", "r", Stop.SUBMITTED),
    ]
    assert notes == (f"{tmp_path}: 1 trajectory without a patch is left out, for infrastructure failed: b.0",)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["instance_id", "model_patch", "patch", "sample", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    path = tmp_path_factory.mktemp("any") / "p.json"
    try:
        found, _ = read_predictions(written(path, content))
    except UserError:
        return
    assert len({one.key for one in found}) == len(found)
