"""From the words after `--tasks` to a set."""

import json
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
    with pytest.raises(UserError, match=r"heldout\.jsonl, line 1: .* seen before .*train\.jsonl, line 1"):
        load_tasks(str(splits))


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
    code = (
        "import sys; from swe_aem.tasks import load_tasks; load_tasks(sys.argv[1]); "
        "print([name for name in ('datasets', 'swebench', 'pyarrow', 'torch', 'pytest') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(splits)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
