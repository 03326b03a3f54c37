"""The clock of a command's limit: it stops while others have the processors, and for no other reason."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swe_aem.core import WALL_PER_LIMIT, Limits, Sandbox, SandboxSpec
from swe_aem.sandbox import cgroup
from swe_aem.sandbox.bubblewrap import BubblewrapBackend
from swe_aem.sandbox.warden import warden_binary

LIMIT_S = 2.0
WINDOW_US = 1_000_000
SPIN = """python3 -c '
import os, time
for _ in range({processes} - 1):
    if os.fork() == 0:
        break
end = time.thread_time() + {cpu_s}
while time.thread_time() < end:
    pass
'"""
UNREAPED = """python3 -c '
import os, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    if os.fork() == 0:
        sum(range(100_000))
        os._exit(0)
    sum(range(10_000))
'"""


def moved_us(windows: list[tuple[int, ...]]) -> list[int]:
    """How far the warden's clock moves in each window of (wall, used, idle, wanted) microseconds."""
    numbers = [str(number) for window in windows for number in window]
    done = subprocess.run([warden_binary(), "clock", *numbers], capture_output=True, check=True, text=True)
    return [int(line) for line in done.stdout.split()]


RANGES = ((1, 10 * WINDOW_US), (0, 10**9), (0, 10**10), (0, 10**9))
WINDOWS = st.lists(st.tuples(*(st.integers(low, high) for low, high in RANGES)), min_size=1, max_size=30)


@settings(max_examples=50, deadline=None)
@given(WINDOWS)
def test_the_clock_moves_by_the_share_that_the_sandbox_got(windows: list[tuple[int, ...]]) -> None:
    for (wall, used, idle, wanted), moved in zip(windows, moved_us(windows), strict=True):
        assert 0 <= moved <= wall
        assert moved == (wall if used + idle >= wanted else wall * (used + idle) // wanted)


@pytest.mark.parametrize(
    ("used", "idle", "wanted", "moved"),
    [
        pytest.param(0, 0, 0, WINDOW_US, id="asleep"),
        pytest.param(WINDOW_US, 0, WINDOW_US, WINDOW_US, id="one thread with one processor"),
        pytest.param(2 * WINDOW_US, 0, 2 * WINDOW_US, WINDOW_US, id="64 threads at a limit of two processors"),
        pytest.param(50_000, 0, WINDOW_US, 50_000, id="one thread among twenty of others"),
        pytest.param(50_000, WINDOW_US, WINDOW_US, WINDOW_US, id="runnable at each look, beside an idle processor"),
        pytest.param(0, 0, WINDOW_US, 0, id="no processor at all"),
    ],
)
def test_who_is_starved(used: int, idle: int, wanted: int, moved: int) -> None:
    assert moved_us([(WINDOW_US, used, idle, wanted)]) == [moved]


@contextlib.contextmanager
def group_of_weight(name: str, weight: int) -> Iterator[Path]:
    """A control group with `weight` times the processor weight of all sandboxes together."""
    unified = (cgroup.ROOT / "cgroup.controllers").exists()
    base = cgroup.ROOT if unified else cgroup.ROOT / "cpu"
    weigh = "cpu.weight" if unified else "cpu.shares"
    group = base / f"swe-aem-test-{name}-{os.getpid()}"
    try:
        group.mkdir()
        (group / weigh).write_text(str(weight * int((base / cgroup.PARENT / weigh).read_text())))
        yield group
    except PermissionError as error:
        pytest.skip(f"this process may not make control groups: {error}")
    finally:
        while group.exists():
            with contextlib.suppress(OSError):
                group.rmdir()


@contextlib.contextmanager
def joined(group: Path) -> Iterator[None]:
    """This process is in the group meanwhile: it must go on, whatever it starves."""
    mine = "" if (cgroup.ROOT / "cgroup.controllers").exists() else "cpu"
    lines = (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines())
    before = next(path for _, controllers, path in lines if mine in controllers.split(","))
    (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        (group.parent / before.strip("/") / "cgroup.procs").write_text(str(os.getpid()))


@contextlib.contextmanager
def hogs(weight: int) -> Iterator[None]:
    """One busy process per processor, together with `weight` times the processor weight of all sandboxes. This process
    has as much."""
    processes: list[subprocess.Popen[bytes]] = []
    with group_of_weight("hogs", weight) as group, group_of_weight("own", weight) as own:
        try:
            with joined(own):
                for _ in range(os.cpu_count() or 1):
                    processes.append(subprocess.Popen(["sh", "-c", "while :; do :; done"]))
                    (group / "cgroup.procs").write_text(str(processes[-1].pid))
                yield
        finally:
            for process in processes:
                process.kill()
                process.wait()


@pytest.fixture
def spec(workspace: Path) -> SandboxSpec:
    """A sandbox with two processors."""
    return SandboxSpec(image="swe-aem/micro:1", workspace=workspace, limits=Limits(cpus=2.0, pids=128), ttl_s=300)


async def test_an_endless_sleep_ends_at_its_limit_whoever_has_the_processors(sandbox: Sandbox) -> None:
    with hogs(4):
        done = await sandbox.run("sleep 300", timeout_s=LIMIT_S, wall_s=WALL_PER_LIMIT * LIMIT_S)
    assert done.killed_for == "timeout"
    assert done.wall_s < 3 * LIMIT_S


async def test_work_that_fits_its_limit_is_done_although_others_have_the_processors(sandbox: Sandbox) -> None:
    # The clock counts the first second whole: even work that gets nothing in it has room to be done.
    work = SPIN.format(processes=1, cpu_s=0.35 * LIMIT_S)
    with hogs(8):
        for _ in range(30):  # until the others had the processors
            done = await sandbox.run(work, timeout_s=LIMIT_S, wall_s=10 * WALL_PER_LIMIT * LIMIT_S)
            assert (done.exit_code, done.killed_for) == (0, None)
            if done.starved_s > 0:
                break
    assert done.starved_s > 0, "the host was not busy enough to show anything"
    assert done.wall_s - done.starved_s <= LIMIT_S


async def test_the_wall_ends_what_gets_no_processor(sandbox: Sandbox) -> None:
    with hogs(8):
        done = await sandbox.run("while :; do :; done", timeout_s=LIMIT_S, wall_s=1.5 * LIMIT_S)
    assert done.killed_for == "starved"
    assert done.timed_out
    assert done.exit_code == 124
    assert done.starved_s > 0


def unified_hierarchy() -> Path | None:
    """Where version 2 of control groups is mounted, alone or beside version 1; None if nowhere."""
    places = (cgroup.ROOT, cgroup.ROOT / "unified")
    return next((place for place in places if (place / "cgroup.controllers").exists()), None)


@pytest.mark.bubblewrap
async def test_the_counter_of_version_2_is_read(
    require_bubblewrap: None, spec: SandboxSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`cpu.stat` is there in each group, whatever controllers the hierarchy has."""
    if (place := unified_hierarchy()) is None or not os.access(place, os.W_OK):
        pytest.skip("this process may not make control groups of version 2")
    group = place / f"swe-aem-test-{os.getpid()}"
    group.mkdir()
    make = cgroup.create

    def create(id: str, limits: Limits) -> cgroup.Cgroup | None:
        made = make(id, limits)
        return made and cgroup.Cgroup((*made.directories, group), made.unified)

    monkeypatch.setattr(cgroup, "create", create)
    monkeypatch.setattr(cgroup.Cgroup, "cpu_counter", group / "cpu.stat")
    try:
        async with BubblewrapBackend().open(spec) as sandbox:
            idle = await sandbox.run("sleep 0.5", timeout_s=30)
            done = await sandbox.run(SPIN.format(processes=1, cpu_s=0.5), timeout_s=30)
            with hogs(4):
                starved = await sandbox.run("while :; do :; done", timeout_s=LIMIT_S, wall_s=1.5 * LIMIT_S)
    finally:
        while group.exists():
            with contextlib.suppress(OSError):
                group.rmdir()
    assert idle.cpu_s is not None
    assert idle.cpu_s < 0.4
    assert done.cpu_s is not None
    assert done.cpu_s > 0.4
    assert starved.starved_s > 0


CHANGES = {
    "memory": "resource.prlimit(1, resource.RLIMIT_AS, (1, 1))",
    "processor time": "resource.prlimit(1, resource.RLIMIT_CPU, (1, 1))",
    "nice value": "os.setpriority(os.PRIO_PROCESS, 1, 19)",
    "nice value of its group": "os.setpriority(os.PRIO_PGRP, 1, 19)",
    "nice value of its user": "os.setpriority(os.PRIO_USER, os.getuid(), 19)",
    "idle scheduling": "os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0))",
    "scheduling parameter": "os.sched_setparam(1, os.sched_param(0))",
    "processors": "os.sched_setaffinity(1, {0})",
}
OWN = "os.setpriority(os.PRIO_PROCESS, 0, 5); resource.prlimit(0, resource.RLIMIT_CPU, (9, 9))"


async def test_no_command_changes_limits_or_priority_of_the_warden(sandbox: Sandbox) -> None:
    lines = ["import os, resource, sys", OWN]
    for what, change in CHANGES.items():
        lines += ["try:", f"    {change}", f"    print({what!r})", "except PermissionError:", "    pass"]
    await sandbox.write_file("change.py", "\n".join(lines).encode())
    done = await sandbox.run("python3 change.py", timeout_s=30)
    assert (done.exit_code, done.output) == (0, "")
    assert (await sandbox.run("echo alive", timeout_s=30)).output == "alive\n"


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(SPIN.format(processes=64, cpu_s=1e9), id="64 processes"),
        pytest.param(UNREAPED, id="processes that nobody reaps"),
        pytest.param("taskset -c 0 sh -c '" + "while :; do :; done & " * 8 + "wait'", id="pinned to one processor"),
        pytest.param("nice -n 19 sh -c 'while :; do :; done'", id="low priority"),
    ],
)
async def test_its_own_competition_does_not_stop_the_clock(sandbox: Sandbox, command: str) -> None:
    done = await sandbox.run(command, timeout_s=LIMIT_S, wall_s=WALL_PER_LIMIT * LIMIT_S)
    assert done.killed_for == "timeout"
