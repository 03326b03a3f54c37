"""Trajectories while wardens die, runs are stopped and processors are taken away: each ends once, and rightly."""

import contextlib
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from swe_aem.sandbox import cgroup
from swe_aem.store import Store
from tests.e2e.soak import DEEDS, OUTCOMES, deed_of
from tests.e2e.test_killed import REPOSITORY, orphaned_groups, sandboxes

_OURS = (b"/.warden\0serve", b"bwrap\0", b"swe_aem.grading.worker")
"""What is killed and stopped from outside; a test that is killed so cannot be told from one that crashed."""
_BUSY_LOOP = "while :; do :; done"
_MOST_GROWTH_BYTES = 64 << 20


class Soak:
    """A run that is started again until its work is done, and what is done to it meanwhile: each act so many times."""

    def __init__(self, kind: str, out: Path, group_size: int, acts: Mapping[str, int], pause_s: float) -> None:
        self.command = [sys.executable, "-m", "tests.e2e.soak", kind, str(out), str(group_size)]
        self.log = out.with_suffix(".log")
        self.pause_s = pause_s
        self.random = random.Random(20261128)
        self.left = [act for act, times in acts.items() for _ in range(times)]
        self.random.shuffle(self.left)
        self.memory_bytes: list[list[int]] = []

    def run(self, limit_s: float) -> None:
        """Start and disturb the run until it has ended by itself; fails after `limit_s`."""
        end_s = time.monotonic() + limit_s
        while True:
            with self.log.open("ab") as log:
                run = subprocess.Popen(self.command, cwd=REPOSITORY, stdout=log, stderr=log)
            try:
                code = self._disturb(run, end_s)
            finally:
                if run.poll() is None:
                    run.kill()
                    run.wait()
            if code == 0:
                return
            assert code in (3, -signal.SIGKILL, -signal.SIGTERM), self.log.read_text("utf-8", "replace")[-3000:]

    def _disturb(self, run: "subprocess.Popen[bytes]", end_s: float) -> int:
        self.memory_bytes.append([])
        while run.poll() is None:
            assert time.monotonic() < end_s, f"not done in time, these are left: {Counter(self.left)}"
            time.sleep(self.random.uniform(0.5, 1.5) * self.pause_s)
            self.memory_bytes[-1] += resident_bytes(run.pid)
            if self.left:
                ACTS[self.left.pop()](self, run)
        return run.returncode

    def stop(self, run: "subprocess.Popen[bytes]") -> None:
        """The run drains, as after a Ctrl-C."""
        run.send_signal(signal.SIGTERM)
        run.wait()

    def kill(self, run: "subprocess.Popen[bytes]") -> None:
        """The run dies at once."""
        run.kill()
        run.wait()

    def kill_one(self, run: "subprocess.Popen[bytes]") -> None:
        """A warden, a launcher or the log parser dies."""
        victims = [pid for pid in descendants(run.pid) if is_ours(pid)]
        if victims:
            send(self.random.choice(victims), signal.SIGKILL)

    def freeze(self, run: "subprocess.Popen[bytes]") -> None:
        """Some processes of the run and of its sandboxes get no processor for a moment."""
        frozen = [pid for pid in descendants(run.pid) if self.random.random() < 0.3]
        for pid in frozen:
            send(pid, signal.SIGSTOP)
        time.sleep(self.random.uniform(0.2, 1.5))
        for pid in frozen:
            send(pid, signal.SIGCONT)

    def keep_busy(self, run: "subprocess.Popen[bytes]") -> None:
        """Forty processes want the processors too."""
        busy = [subprocess.Popen(["timeout", "2", "sh", "-c", _BUSY_LOOP]) for _ in range(40)]
        for process in busy:
            process.wait()


ACTS = {act.__name__: act for act in (Soak.stop, Soak.kill, Soak.kill_one, Soak.freeze, Soak.keep_busy)}
SHORT = {"stop": 1, "kill": 1, "kill_one": 2, "freeze": 2, "keep_busy": 1}
LONG = {"stop": 10, "kill": 20, "kill_one": 60, "freeze": 100, "keep_busy": 30}


@pytest.mark.slow
@pytest.mark.bubblewrap
@pytest.mark.usefixtures("require_bubblewrap")
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("group_size", "acts", "pause_s"), [(3, SHORT, 1.0), pytest.param(125, LONG, 4.0, marks=pytest.mark.nightly)]
)
def test_each_trajectory_ends_once_and_rightly(
    tmp_path: Path, group_size: int, acts: Mapping[str, int], pause_s: float
) -> None:
    out = tmp_path / "out"
    before, groups_before, temporary_before = sandboxes(owner_alive=False), set(cgroup.leftovers()), ours_below_tmp()
    soak = Soak("bubblewrap", out, group_size, acts, pause_s)
    soak.run(limit_s=6600.0)
    trajectories = list(Store(out).trajectories())
    ids = Counter(trajectory.id for trajectory in trajectories)
    assert len(ids) == group_size * len(DEEDS)
    assert set(ids.values()) == {1}
    wrong = [
        f"{trajectory.id}: {trajectory.outcome}, {trajectory.error}"
        for trajectory in trajectories
        if str(trajectory.outcome) not in OUTCOMES[deed_of(trajectory.task_id)]
    ]
    assert wrong == []
    subprocess.run([sys.executable, "-m", "swe_aem", "sandbox", "prune"], check=True, capture_output=True)
    assert sandboxes(owner_alive=False) <= before
    assert orphaned_groups() <= groups_before
    assert ours_below_tmp() <= temporary_before
    assert_flat(soak.memory_bytes)


def assert_flat(runs: list[list[int]]) -> None:
    """The longest run needed about as much memory at its end as after its first quarter."""
    longest = max(runs, key=len)
    quarter = len(longest) // 4
    if quarter >= 4:
        early, late = longest[quarter : 2 * quarter], longest[-quarter:]
        assert statistics.median(late) < statistics.median(early) + _MOST_GROWTH_BYTES


def ours_below_tmp() -> set[str]:
    """Names of ours in the directory for temporary files."""
    return {name for name in os.listdir(tempfile.gettempdir()) if name.startswith(("swe-aem", ".swe-aem"))}


def descendants(pid: int) -> list[int]:
    """Process ids below `pid`, in any depth."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text("utf-8", "replace").rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(entry.parent.name))

    def below(one: int) -> Iterator[int]:
        for child in parents.get(one, []):
            yield child
            yield from below(child)

    return list(below(pid))


def is_ours(pid: int) -> bool:
    """Is it a warden, a launcher or the log parser?"""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return any(part in line for part in _OURS)


def send(pid: int, number: signal.Signals) -> None:
    """A signal to a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def resident_bytes(pid: int) -> list[int]:
    """What a process holds in memory; nothing if it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return []
    return [pages * os.sysconf("SC_PAGE_SIZE")]
