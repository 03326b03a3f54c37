"""`failures.jsonl`: written line by line, read back whatever a kill left."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from swe_aem.core import TrajectoryKey
from swe_aem.errors import PolicyError
from swe_aem.store import FailureLog, failed_attempt, failures_of, read_failures, read_left_out
from swe_aem.store import failures as module

PLACE = {"task_id": "t", "sample": 1, "attempt": 2, "part": "agent", "phase": "start"}


def test_no_failures_no_file(tmp_path: Path) -> None:
    failures = FailureLog(tmp_path)
    failures.close()
    assert (failures.count, list(tmp_path.iterdir()), list(read_failures(tmp_path))) == (0, [], [])


def test_a_torn_line_is_left_out_and_the_next_one_is_whole(tmp_path: Path) -> None:
    for said in ("first", "second"):
        failures = FailureLog(tmp_path)
        failures.append(failed_attempt(PolicyError(said), **PLACE))
        failures.close()
        with (tmp_path / "failures.jsonl").open("ab") as file:
            file.write(b'{"time": "2026-11')
    assert [(one.message, str(one.key)) for one in read_failures(tmp_path)] == [("first", "t.1"), ("second", "t.1")]
    assert FailureLog(tmp_path).count == 2


def test_a_full_file_does_not_grow_and_every_failure_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 2_000)
    for _ in range(2):  # a process, and the one that resumes its run
        failures = FailureLog(tmp_path)
        for error in (PolicyError("x"), OSError("y")) * 5:
            failures.append(failed_attempt(error, **PLACE))
        failures.close()
    assert (tmp_path / "failures.jsonl").stat().st_size <= 2_000
    kept, left_out = list(read_failures(tmp_path)), read_left_out(tmp_path)
    assert kept
    for cause in ("PolicyError", "OSError"):
        there = sum(one.cause == cause for one in kept)
        assert there + sum(one.attempts for one in left_out if one.cause == cause) == 10
    assert FailureLog(tmp_path).count == 20


def test_the_failures_of_one_trajectory_are_read_without_those_of_other_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = FailureLog(tmp_path)
    for task_id, sample in (('t\udcff "\\ü', 1), ("t", 1), ("t", 2), ("tt", 1)):
        failures.append(failed_attempt(PolicyError("x"), **(PLACE | {"task_id": task_id, "sample": sample})))
    failures.close()
    assert [one.key for one in failures_of(tmp_path, TrajectoryKey('t\udcff "\\ü', 1))] == [('t\udcff "\\ü', 1)]
    parsed: list[bytes] = []

    def parse(data: bytes) -> object:
        parsed.append(data)
        return json.loads(data)

    monkeypatch.setattr("swe_aem.store.records.json", SimpleNamespace(loads=parse))
    assert [one.key for one in failures_of(tmp_path, TrajectoryKey("t", 1))] == [("t", 1)]
    assert len(parsed) == 2


def test_a_task_whose_id_holds_a_lone_surrogate_loses_no_failure(tmp_path: Path) -> None:
    failures = FailureLog(tmp_path)
    failures.append(failed_attempt(PolicyError("gone"), **(PLACE | {"task_id": "t\udcff"})))
    failures.close()
    assert [one.task_id for one in read_failures(tmp_path)] == ["t\udcff"]


def test_hostile_text_and_keys_are_shown_harmlessly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "correct-horse-battery")
    said = "\x1b[31mred\udcff\u202e correct-horse-battery\nsecond line " + "x" * 10_000_000
    failures = FailureLog(tmp_path)
    failures.append(failed_attempt(PolicyError(said), **PLACE))
    failures.close()
    data = (tmp_path / "failures.jsonl").read_bytes()
    assert len(data) < 300_000
    assert data.count(b"\n") == 1
    message = json.loads(data)["message"]
    assert message.startswith("\\x1b[31mred\\udcff\\u202e ***\nsecond line xxx")
    assert "correct-horse" not in data.decode()
