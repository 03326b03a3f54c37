"""Random kills and cut cables on a real Ray cluster of machines with networks of their own.

    pytest -s -m nightly tests/e2e/test_chaos.py

The head's machine drives; the others roll out. What is killed: the process that drives, an agent, a raylet, a whole
machine. A rollout that ends is followed by another one until all has happened; what happened when is printed.
"""

import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from swe_aem.store import Store, read_failures
from tests.conftest import absent
from tests.e2e.machines import Machine, machines
from tests.e2e.ray_cluster import RayCluster

pytestmark = [pytest.mark.nightly, pytest.mark.slow, pytest.mark.bubblewrap, pytest.mark.timeout(3600)]
REPOSITORY = Path(__file__).parents[2]
PLACES, GRADING, TASKS, GROUP_SIZE = 2, 1, 6, 8
LOST_AFTER_S = 15.0
PATIENCE_S = 300.0
"""For one trajectory to be stored, on a machine that is as busy as this may make it."""


@dataclass
class Fleet:
    """A head and machines that roll out."""

    cluster: RayCluster
    head: Machine
    others: list[Machine]
    rays: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self) -> None:
        """Start Ray everywhere."""
        self.cluster.start(f"--node-ip-address={self.head.address}", inside=self.head.inside(self.cluster.environment))
        for machine in self.others:
            self.join(machine)

    def join(self, machine: Machine) -> None:
        """Start Ray on a machine, again."""
        inside = machine.inside(self.cluster.environment)
        self.rays[machine.name] = self.cluster.add(f"--node-ip-address={machine.address}", inside=inside)

    def leave(self, machine: Machine) -> None:
        """Take away what is left of Ray on a machine."""
        machine.kill("raylet")
        machine.kill("ray/")
        self.cluster.kill(self.rays.pop(machine.name))

    def join_again(self) -> None:
        """Start Ray where it has ended, as its job file would: it ends where the head has given it up."""
        for machine in self.others:
            if self.rays[machine.name].poll() is not None and not machine.is_cut_off:
                tell(f"Ray has ended on {machine.name}: it joins again")
                self.leave(machine)
                self.join(machine)


@dataclass
class Drive:
    """Rollouts, one after the other, each into a store of its own."""

    fleet: Fleet
    directory: Path
    number: int = 0
    process: subprocess.Popen[bytes] | None = None
    stored_before: int = 0

    @property
    def out(self) -> Path:
        """The store of the rollout that runs."""
        return self.directory / f"out-{self.number}"

    def start(self) -> None:
        """Start the command, or repeat it."""
        settings = {"cluster.lost_after_s": LOST_AFTER_S, "scheduling.max_attempts": 50, "scheduling.backoff_s": 0.1}
        command = [
            sys.executable, "-m", "swe_aem", "rollout", "--out", str(self.out), "--cluster", self.fleet.cluster.address,
            "--tasks", "tasks/nano", "--limit", str(TASKS), "--group-size", str(GROUP_SIZE), "--no-twins",
            "--agent", "tests/e2e/patient.py:Patient", "--policy", "gold",
            "--concurrency", str(PLACES), "--grading", str(GRADING),
            *(word for name, value in settings.items() for word in ("--set", f"{name}={value}")),
        ]  # fmt: skip
        inside = self.fleet.head.inside(self.fleet.cluster.environment)
        with (self.directory / "driven.log").open("ab") as log:
            self.process = subprocess.Popen([*inside, *command], cwd=REPOSITORY, stdout=log, stderr=log)

    def kill(self) -> None:
        """End the process that drives, at once."""
        self.fleet.head.kill("swe_aem rollout")
        assert self.process is not None
        self.process.wait()

    def stored(self) -> int:
        """Trajectories in all stores. Where a rollout has ended, the next one begins."""
        assert self.process is not None
        if self.process.poll() is not None:
            assert self.process.returncode == 0, self.log
            tell(f"rollout {self.number} has ended")
            self.stored_before += lines(self.out)
            self.number += 1
            self.start()
        return self.stored_before + lines(self.out)

    def wait_for_more(self, count: int, meanwhile: Callable[[], None]) -> None:
        """Until so many more are stored."""
        wanted, end_s = self.stored() + count, time.monotonic() + PATIENCE_S
        while self.stored() < wanted:
            assert time.monotonic() < end_s, f"nothing was stored for {PATIENCE_S:.0f} s\n{self.log}"
            meanwhile()
            time.sleep(0.1)

    def finish(self, meanwhile: Callable[[], None]) -> None:
        """Until the rollout that runs has ended."""
        assert self.process is not None
        end_s = time.monotonic() + 3 * PATIENCE_S
        while self.process.poll() is None:
            assert time.monotonic() < end_s, self.log
            meanwhile()
            time.sleep(0.1)
        assert self.process.returncode == 0, self.log

    @property
    def log(self) -> str:
        """The end of what the command printed."""
        return (self.directory / "driven.log").read_text("utf-8", "replace")[-6000:]


def lines(out: Path) -> int:
    return sum(part.read_bytes().count(b"\n") for part in out.glob("trajectories/*.jsonl"))


BEGAN_S = time.monotonic()


def tell(text: str) -> None:
    print(f"{time.monotonic() - BEGAN_S:7.1f} s  {text}", flush=True)


class Harms:
    """What happens to whom."""

    def __init__(self, fleet: Fleet, drive: Drive, dice: random.Random) -> None:
        self._fleet, self._drive, self._dice = fleet, drive, dice
        self._back_s: dict[Machine, float] = {}
        """When which cable is put back."""

    def driver(self) -> None:
        """The process that drives is killed, and the command is repeated."""
        tell("the process that drives is killed")
        self._drive.kill()
        self._drive.start()

    def agent(self) -> None:
        """An agent's process is killed."""
        machine = self._any()
        tell(f"{machine.kill('ray::NodeAgent')} agent is killed on {machine.name}")

    def raylet(self) -> None:
        """A raylet is killed, which ends Ray on its machine; it is started again."""
        machine = self._any()
        tell(f"{machine.kill('raylet/raylet')} raylet is killed on {machine.name}")

    def machine(self) -> None:
        """A machine's power fails and comes back."""
        machine = self._any()
        tell(f"{machine.name} is switched off with {len(machine.processes())} processes")
        machine.off()
        self._fleet.leave(machine)
        time.sleep(self._dice.uniform(0.0, 5.0))
        machine.on()
        self._fleet.join(machine)
        tell(f"{machine.name} is back")
        self._back_s.pop(machine, None)

    def partition(self) -> None:
        """A machine's cable is pulled, and put back later, whatever happens meanwhile."""
        machine = self._any()
        seconds = self._dice.choice((3.0, 8.0, 20.0, 30.0))
        tell(f"{machine.name} is cut off for {seconds:.0f} s")
        machine.cut()
        self._back_s[machine] = time.monotonic() + seconds

    def mend(self) -> None:
        """Put back cables that have been away for long enough, and start Ray where it has ended."""
        for machine, back_s in list(self._back_s.items()):
            if time.monotonic() > back_s:
                machine.heal()
                del self._back_s[machine]
                tell(f"{machine.name} is connected again")
        self._fleet.join_again()

    def _any(self) -> Machine:
        connected = [machine for machine in self._fleet.others if not machine.is_cut_off]
        return self._dice.choice(connected or self._fleet.others)


@pytest.fixture
def fleet(require_bubblewrap: None) -> Iterator[Fleet]:
    try:
        import ray  # noqa: F401
    except ModuleNotFoundError:
        absent("ray is not installed")
    directory = Path(tempfile.mkdtemp(prefix="ray-"))  # paths of its sockets must be short
    with machines(["head", "one", "two", "three"], directory) as (head, *others):
        cluster = RayCluster(directory)
        cluster.environment["RAY_worker_niceness"] = "0"  # sandboxes beside what else this machine does
        made = Fleet(cluster, head, others)
        try:
            made.start()
            yield made
        finally:
            cluster.stop()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize(("kills", "partitions", "seed"), [(4, 4, 1), (20, 20, 2)])
def test_whatever_happens_each_trajectory_is_stored_once_and_nothing_is_left(
    fleet: Fleet, tmp_path: Path, kills: int, partitions: int, seed: int
) -> None:
    dice, drive = random.Random(seed), Drive(fleet, tmp_path)
    harms = Harms(fleet, drive, dice)
    killers: list[Callable[[], None]] = [harms.driver, harms.agent, harms.raylet, harms.machine]
    events = [killers[number % 4] for number in range(kills)] + [harms.partition] * partitions
    dice.shuffle(events)
    drive.start()
    for number, event in enumerate(events, start=1):
        drive.wait_for_more(dice.randint(1, 2), harms.mend)
        time.sleep(dice.uniform(0.0, 3.0))
        tell(f"event {number} of {len(events)}, {drive.stored()} stored")
        event()
    drive.finish(harms.mend)
    require_stored_once(drive)
    require_nothing_left(fleet)


def require_stored_once(drive: Drive) -> None:
    """Each trajectory of each rollout, paid for what its agent did, and no more repeated than lost hosts worked on."""
    failed, told = 0, (drive.directory / "driven.log").read_text("utf-8", "replace")
    lost = len(re.findall(rf"host .* (?:has been silent for {LOST_AFTER_S:.0f} s: |is lost: )", told))
    for out in (drive.directory / f"out-{number}" for number in range(drive.number + 1)):
        keys = Counter(one.key for one in Store(out).trajectories())
        assert len(keys) == keys.total() == TASKS * GROUP_SIZE
        ends = Counter((str(one.outcome), one.reward) for one in Store(out).trajectories())
        failures = list(read_failures(out))
        tell(f"{out.name}: {dict(ends)}, {len(failures)} failed attempts")
        assert ends == {("resolved", 1.0): TASKS * GROUP_SIZE}
        assert {one.blame for one in failures} <= {"infrastructure"}
        failed += len(failures)
    tell(f"{failed} attempts failed; {lost} times a host was lost, each with {PLACES + GRADING} at most")
    assert failed <= lost * (PLACES + GRADING)


def require_nothing_left(fleet: Fleet) -> None:
    """No process, sandbox, mount, control group or file of a run, on any machine that is on."""
    end_s = time.monotonic() + 60.0
    for machine in (fleet.head, *fleet.others):
        while running := [line for line in machine.processes().values() if "bwrap" in line or "NodeAgent" in line]:
            assert time.monotonic() < end_s, f"{machine.name} still runs {running}"
            time.sleep(0.2)
        machine.run(sys.executable, "-m", "swe_aem", "sandbox", "prune")
        assert machine.left() == [], machine.name
        tell(f"nothing is left on {machine.name}")
