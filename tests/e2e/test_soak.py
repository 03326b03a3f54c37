"""Trajectories while wardens die, runs are stopped and processors are taken away: each ends once, and rightly."""

import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from swe_aem.sandbox import cgroup
from swe_aem.store import Store
from tests.e2e.hosts import OwnEngine, busy, descendants, filled, own_engine, send, small_disk
from tests.e2e.soak import DEEDS, OUTCOMES, deed_of
from tests.e2e.test_killed import REPOSITORY, orphaned_groups, sandboxes

Run = subprocess.Popen[bytes]

_OURS = (b"/.warden\0serve", b"bwrap\0", b"swe_aem.grading.worker")
"""What is killed and stopped from outside; a test that is killed so cannot be told from one that crashed."""
_MOST_GROWTH_BYTES = 64 << 20
_DISK_BYTES = 256 << 20


class Soak:
    """A run that is started again until its work is done, and what is done to it and its host meanwhile: each act so
    many times. The store and all scratch files are on `disk`; `engine` is None for bubblewrap."""

    def __init__(self, disk: Path, engine: OwnEngine | None, group_size: int, acts: Mapping[str, int]) -> None:
        self.disk, self.engine, self.group_size = disk, engine, group_size
        self.out, self.log = disk / "out", disk.with_name("soak.log")
        kind = "bubblewrap" if engine is None else "docker"
        self.command = [sys.executable, "-m", "tests.e2e.soak", kind, str(self.out), str(group_size)]
        self.random = random.Random(20261128)
        self.left = [act for act, times in acts.items() for _ in range(times)]
        self.random.shuffle(self.left)
        self.memory_bytes: list[list[int]] = []

    def run(self, pause_s: float, limit_s: float) -> None:
        """Start and disturb the run, with pauses of about `pause_s`, until it has ended by itself; fails after
        `limit_s`."""
        end_s = time.monotonic() + limit_s
        while True:
            with self.log.open("ab") as log:
                run = subprocess.Popen(self.command, cwd=REPOSITORY, stdout=log, stderr=log)
            try:
                code = self._disturb(run, pause_s, end_s)
            finally:
                if run.poll() is None:
                    run.kill()
                    run.wait()
            if code == 0:
                return
            said = self.log.read_text("utf-8", "replace")[-3000:]
            assert code in (3, -signal.SIGKILL, -signal.SIGTERM) or "No space left" in said, said

    def _disturb(self, run: Run, pause_s: float, end_s: float) -> int:
        self.memory_bytes.append([])
        while run.poll() is None:
            assert time.monotonic() < end_s, f"not done in time, these are left: {Counter(self.left)}"
            time.sleep(self.random.uniform(0.5, 1.5) * pause_s)
            self.memory_bytes[-1] += resident_bytes(run.pid)
            if self.left:
                ACTS[self.left.pop()](self, run)
        return run.returncode

    def stop(self, run: Run) -> None:
        """The run drains, as after a Ctrl-C."""
        run.send_signal(signal.SIGTERM)
        run.wait()

    def kill(self, run: Run) -> None:
        """The run dies at once."""
        run.kill()
        run.wait()

    def kill_one(self, run: Run) -> None:
        """A sandbox, a launcher or the log parser dies."""
        victims = [pid for pid in descendants(run.pid) if is_ours(pid)]
        if victims:
            send(self.random.choice(victims), signal.SIGKILL)
        if self.engine is not None and (ids := self.engine.docker("ps", "-q").stdout.split()):
            self.engine.docker("kill", os.fsdecode(self.random.choice(ids)), check=False)  # it may have ended

    def freeze(self, run: Run) -> None:
        """Some processes of the run and of its sandboxes get no processor for a moment."""
        frozen = [pid for pid in descendants(run.pid) if self.random.random() < 0.3]
        for pid in frozen:
            send(pid, signal.SIGSTOP)
        time.sleep(self.random.uniform(0.2, 1.5))
        for pid in frozen:
            send(pid, signal.SIGCONT)

    def keep_busy(self, run: Run) -> None:
        """Forty processes want the processors too."""
        with busy(40):
            time.sleep(2.0)

    def fill_disk(self, run: Run) -> None:
        """Nothing can be written on this host."""
        with filled(self.disk):
            time.sleep(self.random.uniform(0.2, 2.0))

    def stop_engine(self, run: Run) -> None:
        """The engine is restarted as for an update."""
        assert self.engine is not None
        self.engine.stop()
        self.engine.start()

    def kill_engine(self, run: Run) -> None:
        """The engine dies and comes back."""
        assert self.engine is not None
        self.engine.kill()
        self.engine.start()


ACTS = {
    act.__name__: act
    for act in (
        Soak.stop, Soak.kill, Soak.kill_one, Soak.freeze, Soak.keep_busy, Soak.fill_disk, Soak.stop_engine,
        Soak.kill_engine,
    )
}  # fmt: skip
SHORT = {"stop": 1, "kill": 1, "kill_one": 2, "freeze": 2, "keep_busy": 1, "fill_disk": 1}
LONG = {"stop": 5, "kill": 10, "kill_one": 40, "freeze": 50, "keep_busy": 10, "fill_disk": 20}
ENGINE = {"stop": 1, "kill": 2, "kill_one": 8, "freeze": 4, "fill_disk": 4, "stop_engine": 2, "kill_engine": 2}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]


@pytest.mark.bubblewrap
@pytest.mark.usefixtures("require_bubblewrap")
@pytest.mark.parametrize(
    ("group_size", "acts", "pause_s"), [(3, SHORT, 1.0), pytest.param(125, LONG, 4.0, marks=pytest.mark.nightly)]
)
def test_each_trajectory_ends_once_and_rightly(
    scratch: Path, group_size: int, acts: Mapping[str, int], pause_s: float
) -> None:
    check(Soak(scratch.parent, None, group_size, acts), scratch, pause_s)


@pytest.mark.nightly
@pytest.mark.docker
@pytest.mark.usefixtures("require_docker")
def test_each_trajectory_in_docker_ends_once_and_rightly(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with own_engine() as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.host)
        check(Soak(scratch.parent, engine, 16, ENGINE), scratch, 8.0)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Directory for the temporary files of all that is started, on a small disk."""
    with small_disk(tmp_path, _DISK_BYTES) as disk:
        (directory := disk / "tmp").mkdir()
        monkeypatch.setenv("TMPDIR", str(directory))
        yield directory


def check(soak: Soak, scratch: Path, pause_s: float) -> None:
    """Run a soak to its end; then each trajectory is there once with the right outcome, and nothing is left."""
    before, groups_before = sandboxes(owner_alive=False), set(cgroup.leftovers())
    soak.run(pause_s, limit_s=6600.0)
    trajectories = list(Store(soak.out).trajectories())
    ids = Counter(trajectory.id for trajectory in trajectories)
    assert len(ids) == soak.group_size * len(DEEDS)
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
    assert [name for name in os.listdir(scratch) if name.startswith("swe-aem")] == []
    assert_flat(soak.memory_bytes)


def assert_flat(runs: list[list[int]]) -> None:
    """The longest run needed about as much memory at its end as after its first quarter."""
    longest = max(runs, key=len)
    quarter = len(longest) // 4
    if quarter >= 4:
        early, late = longest[quarter : 2 * quarter], longest[-quarter:]
        assert statistics.median(late) < statistics.median(early) + _MOST_GROWTH_BYTES


def is_ours(pid: int) -> bool:
    """Is it a warden, a launcher or the log parser?"""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return any(part in line for part in _OURS)


def resident_bytes(pid: int) -> list[int]:
    """What a process holds in memory; nothing if it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return []
    return [pages * os.sysconf("SC_PAGE_SIZE")]
