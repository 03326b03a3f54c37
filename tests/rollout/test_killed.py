"""Processes that are killed or interrupted: every record survives, and the next run completes the rest."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from swe_aem.store import Store, read_failures, read_phases
from swe_aem.view.trace import trace
from tests.view.trace_rules import check

SCRIPT = Path(__file__).with_name("killable.py")


def start(directory: Path, *, tasks: int, group_size: int, work_s: float, failures: int = 0) -> subprocess.Popen[str]:
    """The process, with at least one agent running."""
    command = [sys.executable, str(SCRIPT), str(directory), *map(str, (tasks, group_size, work_s, failures))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if not process.stdout.readline():
        raise AssertionError(process.communicate()[1])
    return process


def stored_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in (directory / "trajectories").glob("*.jsonl"))


def records(directory: Path) -> list[tuple[str, int]]:
    return [(one.task_id, one.sample) for one in Store(directory).trajectories()]


@pytest.mark.slow
def test_kill_9_at_random_moments_then_the_same_command(tmp_path: Path) -> None:
    dice = random.Random(5)
    known: set[tuple[str, int]] = set()
    for _ in range(6):
        process = start(tmp_path, tasks=16, group_size=4, work_s=0.2)
        before = stored_bytes(tmp_path)
        while stored_bytes(tmp_path) == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(dice.random() * 0.2)
        process.kill()
        process.communicate()
        found = records(tmp_path)
        assert len(found) == len(set(found))
        assert known <= set(found), "a record was lost"
        known = set(found)
    assert 0 < len(known) < 64, "the kills came too early or too late to prove anything"
    process = start(tmp_path, tasks=16, group_size=4, work_s=0.01)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    found = records(tmp_path)
    assert sorted(found) == sorted((f"task-{n}", sample) for n in range(16) for sample in range(4))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["trajectories"] == summary["resolved"] == summary["outcomes"]["resolved"] == 64
    stored = {(one.task_id, one.sample): one.timings_s for one in Store(tmp_path).trajectories()}
    last = {(one.task_id or "", one.sample or 0): one for one in read_phases(tmp_path) if one.phase == "agent"}
    assert last.keys() == stored.keys()
    for key, phase in last.items():
        assert phase.seconds == pytest.approx(stored[key]["agent"], abs=1e-5), "it is that of the stored attempt"
    check(trace(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_lets_running_trajectories_finish(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path, tasks=40, group_size=1, work_s=0.5)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "running ones may finish" in errors
    assert 1 <= len(records(tmp_path)) <= 4, "what had started was stored, and nothing was started after it"
    assert json.loads((tmp_path / "summary.json").read_text())["trajectories"] == len(records(tmp_path))


@pytest.mark.slow
def test_the_second_signal_ends_everything_at_once(tmp_path: Path) -> None:
    process = start(tmp_path, tasks=40, group_size=1, work_s=20)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "running ones may finish" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "closing the sandboxes" in errors
    assert records(tmp_path) == []


@pytest.mark.slow
def test_two_processes_cannot_write_one_store(tmp_path: Path) -> None:
    first = start(tmp_path, tasks=1, group_size=1, work_s=20)
    command = [sys.executable, str(SCRIPT), str(tmp_path), "1", "1", "0"]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60)
    first.kill()
    first.communicate()
    assert second.returncode != 0
    assert f"being written by process {first.pid}" in second.stderr


@pytest.mark.slow
def test_failed_attempts_of_two_killed_processes_are_counted(tmp_path: Path) -> None:
    for _ in range(2):
        process = start(tmp_path, tasks=2, group_size=1, work_s=600, failures=2)
        assert process.stdout is not None
        assert process.stdout.readline(), "each of the two trajectories has failed twice and runs now"
        process.kill()
        process.communicate()
    assert list(Store(tmp_path).trajectories()) == [], "nothing was stored"
    assert not (tmp_path / "summary.json").exists(), "and no summary written"
    process = start(tmp_path, tasks=2, group_size=1, work_s=0, failures=2)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["failed_attempts"], summary["retries"], summary["trajectories"]) == (12, 4, 2)
    assert summary["failure_causes"] == {"agent: InfrastructureError: the attempt was lost": 12}
    found = list(read_failures(tmp_path))
    assert [(one.task_id, one.attempt) for one in found].count(("task-0", 2)) == 3
