"""From the words after `--tasks` to a set."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from swe_aem.errors import UserError
from swe_aem.tasks import load_tasks


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def splits(tmp_path: Path, row: dict[str, Any]) -> Path:
    """A directory with two splits of two tasks."""
    for split in ("train", "heldout"):
        rows = [{**row, "instance_id": f"{split}-{number}", "difficulty": "easy"} for number in (1, 2)]
        _write(tmp_path / "set" / f"{split}.jsonl", rows)
    return tmp_path / "set"


def test_directory_has_splits(splits: Path) -> None:
    tasks = load_tasks(str(splits))
    assert [(record.task.id, record.split) for record in tasks] == [
        ("train-1", "train"),
        ("train-2", "train"),
        ("heldout-1", "heldout"),
        ("heldout-2", "heldout"),
    ]
    assert tasks.name == str(splits)


def test_one_split(splits: Path) -> None:
    assert [record.task.id for record in load_tasks(str(splits), split="heldout")] == ["heldout-1", "heldout-2"]


def test_unknown_split(splits: Path) -> None:
    with pytest.raises(UserError, match="has no split test; it has heldout, train"):
        load_tasks(str(splits), split="test")


def test_repeated_id_in_two_splits(splits: Path, row: dict[str, Any]) -> None:
    _write(splits / "train.jsonl", [{**row, "instance_id": "heldout-1"}])
    tasks = load_tasks(str(splits))
    assert [(record.task.id, record.split) for record in tasks] == [("heldout-1", "train"), ("heldout-2", "heldout")]
    (left_out,) = tasks.left_out
    assert left_out.where.endswith("heldout.jsonl, line 1")
    assert re.search(r"seen before .*train\.jsonl, line 1", left_out.reason)


ODD_ROWS: list[tuple[dict[str, Any], str]] = [
    ({"FAIL_TO_PASS": []}, "field 'FAIL_TO_PASS' is empty"),
    ({"FAIL_TO_PASS": "['tests/x::a']"}, "is a string that is not a JSON list"),
    ({"PASS_TO_PASS": None}, "field 'PASS_TO_PASS' is missing"),
    ({"PASS_TO_PASS": ""}, "is a string that is not a JSON list"),
    ({"PASS_TO_PASS": ["a", 1]}, "has as entry 2"),
    ({"PASS_TO_PASS": "[" * 100_000}, "cannot be read (RecursionError"),
    ({"test_patch": ""}, "field 'test_patch' is empty"),
    ({"patch": ["diff"]}, "is of type list, not a string"),
    ({"base_commit": "main"}, "not a commit id"),
    ({"image": ...}, "field 'image' is missing"),
    ({"log_parser": "parse_log_nothing"}, "which is not a log parser"),
    ({"timeout_s": -1}, "is not a positive number"),
    ({"instance_id": "train-1"}, "was seen before"),
]
"""Columns that spoil a row (`...`: left out), and how the reason says so."""


@pytest.mark.parametrize(("columns", "reason"), ODD_ROWS, ids=[reason for _, reason in ODD_ROWS])
def test_one_odd_row_costs_one_row(splits: Path, row: dict[str, Any], columns: dict[str, Any], reason: str) -> None:
    odd = {key: value for key, value in {**row, "instance_id": "odd-1", **columns}.items() if value is not ...}
    rows = [{**row, "instance_id": f"train-{number}"} for number in (1, 2)]
    _write(splits / "train.jsonl", [rows[0], odd, rows[1]])
    tasks = load_tasks(str(splits))
    assert [record.task.id for record in tasks] == ["train-1", "train-2", "heldout-1", "heldout-2"]
    (left_out,) = tasks.left_out
    assert left_out.name == odd["instance_id"]
    assert reason in left_out.reason
    (note,) = tasks.notes
    assert note.startswith(
        f"{splits}: 1 of 5 rows cannot be tasks and are left out: {left_out.name}: {left_out.reason}"
    )
    if left_out.name == "odd-1":
        with pytest.raises(UserError, match=r"cannot be tasks: odd-1 \(.*train\.jsonl, line 2\)"):
            load_tasks(str(splits), ids=["odd-1"])
        with pytest.raises(UserError, match=r"odd-1 \(.*line 2\) cannot be a task"):
            tasks.get("odd-1")


def test_what_is_no_row_at_all_costs_one_row(splits: Path) -> None:
    path = splits / "train.jsonl"
    path.write_bytes(path.read_bytes() + b'\xff\n{"a": \n17\n{"unknown": 1}\n')
    tasks = load_tasks(str(path))
    assert len(tasks) == 2
    assert [(row.name.rpartition(" ")[2], row.reason.partition(" (")[0]) for row in tasks.left_out] == [
        ("3", "is not UTF-8 at byte 0"),
        ("4", "is not JSON"),
        ("5", "is a JSON int, not an object"),
        ("6", "the row's columns"),
    ]


def test_a_file_without_any_task_is_an_error(splits: Path, row: dict[str, Any]) -> None:
    rows = [{**row, "instance_id": f"odd-{number}", "image": ""} for number in (1, 2)]
    path = _write(splits / "train.jsonl", rows)
    with pytest.raises(UserError, match=r"none of the 2 rows can be a task; the first is .*line 1: field 'image' is"):
        load_tasks(str(path))
    with pytest.raises(UserError, match="none of the 2 rows"):
        load_tasks(str(splits))  # the other split has tasks: what is wrong is this file


def test_the_note_stays_one_line(splits: Path, row: dict[str, Any]) -> None:
    odd = [{**row, "instance_id": f"odd-{number}", "image": ""} for number in range(40)]
    odd += [{**row, "instance_id": f"bad-{number}", "timeout_s": "x" * number} for number in range(1, 9)]
    odd += [{**row, "instance_id": f"worse-{number}", "base_commit": str(number)} for number in range(9)]
    path = _write(splits / "train.jsonl", [row, *odd])
    (note,) = load_tasks(str(path)).notes
    assert "57 of 58 rows cannot be tasks" in note
    assert "odd-0, odd-1, odd-2 and 37 more: field 'image' is empty" in note
    assert "and 8 more for other reasons" in note
    assert "\n" not in note
    assert len(load_tasks(str(path)).left_out) == 57


def test_real_multilingual_rows_but_one(dataset_rows: Path) -> None:
    tasks = load_tasks(str(dataset_rows / "multilingual.parquet"))
    assert len(tasks) == 299
    assert [(row.id, row.where.rpartition(", ")[2]) for row in tasks.left_out] == [("tokio-rs__axum-1730", "row 272")]
    (record,) = load_tasks(str(dataset_rows / "multilingual.parquet"), ids=["vuejs__core-11899"])
    assert record.task.id == "vuejs__core-11899"


@pytest.mark.parametrize(("name", "count"), [("verified", 500), ("lite", 300), ("multimodal_dev", 102)])
def test_real_sets_are_read_whole(dataset_rows: Path, name: str, count: int) -> None:
    tasks = load_tasks(str(dataset_rows / f"{name}.parquet"))
    assert (len(tasks), tasks.left_out) == (count, ())


def test_directory_without_rows(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name a directory with one file per split"):
        load_tasks(str(tmp_path))


def test_ids_keep_the_order_of_the_source(splits: Path) -> None:
    tasks = load_tasks(str(splits), ids=["heldout-2", "train-1"])
    assert [record.task.id for record in tasks] == ["train-1", "heldout-2"]


def test_unknown_ids(splits: Path) -> None:
    with pytest.raises(UserError, match=r"has no task nothing, x; `swe-aem tasks list --tasks .*` shows"):
        load_tasks(str(splits), ids=["train-1", "x", "nothing"])


def test_limit(splits: Path) -> None:
    assert [record.task.id for record in load_tasks(str(splits), limit=1)] == ["train-1"]


def test_limit_zero(splits: Path) -> None:
    with pytest.raises(UserError, match="limit is 0; give at least 1"):
        load_tasks(str(splits), limit=0)


def test_file(splits: Path) -> None:
    tasks = load_tasks(str(splits / "train.jsonl"))
    assert [record.split for record in tasks] == [None, None]
    assert tasks.workspace("train-1") is None


def test_file_has_no_split(splits: Path) -> None:
    with pytest.raises(UserError, match="a file has no split 'train'"):
        load_tasks(str(splits / "train.jsonl"), split="train")


def test_empty_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no tasks"):
        load_tasks(str(_write(tmp_path / "x.jsonl", [])))


@pytest.mark.parametrize("source", ["gone.jsonl", "./gone", "/gone/set", "sub/gone.parquet"])
def test_missing_path_does_not_ask_the_hub(source: str) -> None:
    with pytest.raises(UserError, match="no such file or directory"):
        load_tasks(source)


def test_hub(monkeypatch: pytest.MonkeyPatch, row: dict[str, Any]) -> None:
    import datasets

    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: [row])
    tasks = load_tasks("owner/set")
    assert [(record.task.id, record.split) for record in tasks] == [("owner__name-1", "test")]


def test_labels_stay_out_of_the_task(splits: Path) -> None:
    tasks = load_tasks(str(splits))
    assert tasks.labels["train-1"] == {"difficulty": "easy"}
    assert "easy" not in tasks.get("train-1").task.model_dump_json()


def test_get_unknown(splits: Path) -> None:
    with pytest.raises(UserError, match="has no task x"):
        load_tasks(str(splits)).get("x")


@pytest.mark.parametrize("source", ["micro", "tasks/micro"])
def test_bundled_set_is_found_from_anywhere(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(load_tasks(source, split="heldout")) >= 150


def test_file_of_the_bundled_set_is_a_split() -> None:
    path = Path(__file__).parents[2] / "tasks" / "micro" / "heldout.jsonl"
    tasks = load_tasks(str(path), split="heldout", limit=1)
    assert tasks.records[0].split == "heldout"
    assert tasks.packages is not None


def test_loading_files_imports_nothing_heavy(splits: Path) -> None:
    assert imported_for(splits, "datasets", "swebench", "pyarrow", "torch", "pytest") == "[]"


def test_loading_parquet_imports_no_more_than_it_needs(dataset_rows: Path) -> None:
    assert imported_for(dataset_rows / "lite.parquet", "datasets", "pandas", "pyarrow.dataset", "torch") == "[]"


def imported_for(source: Path, *names: str) -> str:
    """Which of these modules are there once the source has been loaded, in a process of its own."""
    code = (
        "import sys; from swe_aem.tasks import load_tasks; load_tasks(sys.argv[1]); "
        f"print([name for name in {names!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(source)], capture_output=True, text=True, check=True)
    return done.stdout.strip()
