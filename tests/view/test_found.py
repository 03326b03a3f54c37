"""Which directories are runs, and that each keeps its name."""

from pathlib import Path

import pytest

from swe_aem.errors import UserError
from swe_aem.view.found import DEPTH, Kind, find_runs


def store(directory: Path) -> Path:
    (directory / "trajectories").mkdir(parents=True)
    return directory


def training(directory: Path) -> Path:
    store(directory / "rollouts")
    (directory / "metrics.jsonl").write_text("")
    return directory


def test_runs_are_found_below_what_was_named_each_once(tmp_path: Path) -> None:
    store(tmp_path / "a" / "x")
    training(tmp_path / "b" / "x")
    store(tmp_path / "b" / "x" / "heldout" / "step-0-greedy")
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "verdicts.jsonl").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    found = find_runs([tmp_path, tmp_path / "a"])
    assert [(run.name, run.kind, run.part_of) for run in found] == [
        ("x", Kind.ROLLOUTS, None),
        ("b~x", Kind.TRAINING, None),
        ("b~x+rollouts", Kind.ROLLOUTS, "b~x"),
        ("b~x+step-0-greedy", Kind.ROLLOUTS, "b~x"),
        ("g", Kind.GRADES, None),
    ]


def test_a_run_that_begins_later_changes_no_name(tmp_path: Path) -> None:
    store(tmp_path / "b" / "x")
    before = find_runs([tmp_path])
    store(tmp_path / "a" / "x")
    after = find_runs([tmp_path], before)
    assert [run.name for run in before] == ["x"]
    assert {run.name: run.directory.parent.name for run in after} == {"x": "b", "a~x": "a"}


def test_names_hold_nothing_that_a_url_or_a_file_name_cannot(tmp_path: Path) -> None:
    for name in ("ü ?#%/&"[:5], "..x", "<b>", "a\nb"):
        store(tmp_path / name)
    names = [run.name for run in find_runs([tmp_path])]
    assert len(set(names)) == 4
    assert all(name.isascii() and name.strip(".") and not set(name) & set(" ?#%/&<>\n") for name in names)


def test_directories_are_searched_to_a_depth(tmp_path: Path) -> None:
    store(tmp_path.joinpath(*"abcdefgh"[:DEPTH]))
    store(tmp_path.joinpath("y", *"abcdefgh"[:DEPTH]))
    assert len(find_runs([tmp_path])) == 1


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such directory"):
        find_runs([tmp_path / "nothing"])


def test_a_run_is_not_called_like_a_page(tmp_path: Path) -> None:
    for name in ("compare", "static"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text("")
    assert {run.name for run in find_runs([tmp_path])}.isdisjoint({"compare", "static"})
