"""kill -9 of a rollout at random moments, then the same command again: every trajectory once, nothing left behind."""

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from swe_aem.sandbox import cgroup
from swe_aem.store import Store

REPOSITORY = Path(__file__).parents[2]
GROUP_SIZE = 2
MOST_NEW = 3
"""A run is killed at the latest soon after it has stored so many; too few for all kills together to finish the work."""


def sandboxes(*, owner_alive: bool) -> set[str]:
    """Ids of the sandboxes on this host whose owner is alive, or of the others. Other processes may use the host."""
    listed = subprocess.run(
        [sys.executable, "-m", "swe_aem", "sandbox", "ls", "--json"], capture_output=True, text=True, check=True
    )
    rows = map(json.loads, listed.stdout.splitlines())
    return {row["id"] for row in rows if row["owner_alive"] == owner_alive}


def orphaned_groups(limit_s: float = 10.0) -> set[str]:
    """Control groups that no live owner's sandbox explains; one that is just being made or removed is not meant."""
    left, end = set(cgroup.leftovers()), time.monotonic() + limit_s
    while left and time.monotonic() < end:
        left -= sandboxes(owner_alive=True)
        left &= set(cgroup.leftovers())
        time.sleep(0.2)
    return left


def wait_for(out: Path, records: int, run: subprocess.Popen[bytes]) -> None:
    """Until the store has so many records; fails if the run ends before."""
    while sum(part.read_bytes().count(b"\n") for part in out.glob("trajectories/*.jsonl")) < records:
        assert run.poll() is None, "the run ended before it was killed"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("tasks", "kills"), [(16, 3), pytest.param(32, 10, marks=pytest.mark.nightly)])
def test_kills_lose_and_repeat_nothing(kind: str, tmp_path: Path, tasks: int, kills: int) -> None:
    before, groups_before = sandboxes(owner_alive=False), set(cgroup.leftovers())
    out = tmp_path / "out"
    options = ["--tasks", "tasks/micro", "--agent", "gold", "--limit", str(tasks), "--group-size", str(GROUP_SIZE)]
    options.append("--no-twins")  # they would only make it longer
    command = [sys.executable, "-m", "swe_aem", "rollout", "--out", str(out), *options, "--sandbox", kind]
    random_moments = random.Random(20261123)
    stored: list[int] = []
    for kill in range(kills):
        run = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if kill % 2:  # while trajectories come in
            wait_for(out, stored[-1] + random_moments.randint(1, MOST_NEW), run)
            time.sleep(random_moments.uniform(0.0, 1.0))
        else:  # at any time since its start
            time.sleep(random_moments.uniform(0.5, 5.0))
        run.send_signal(signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL, "the run had ended before it was killed"
        stored.append(len(Store(out).completed()))
    assert stored == sorted(stored), "a stored trajectory was lost"
    assert stored[-1] < tasks * GROUP_SIZE, f"a kill hit a run whose work was done: {stored}"
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    ids = Counter(trajectory.id for trajectory in Store(out).trajectories())
    assert len(ids) == tasks * GROUP_SIZE
    assert set(ids.values()) == {1}
    assert json.loads((out / "summary.json").read_text())["resolved"] == tasks * GROUP_SIZE
    subprocess.run([sys.executable, "-m", "swe_aem", "sandbox", "prune"], check=True, capture_output=True)
    assert sandboxes(owner_alive=False) <= before
    assert orphaned_groups() <= groups_before
