"""Control groups of embedded sandboxes: memory, CPU and process limits, on either version of the kernel's interface."""

import os
import re
import signal
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from swe_aem.core import LimitHits, Limits
from swe_aem.errors import UserError

ROOT = Path("/sys/fs/cgroup")
PARENT = "swe-aem"
_CPU_PERIOD_US = 100_000
WEIGHT_PER_PROCESSOR = 16
"""Against how many busy processes per processor the sandboxes together keep half of the host."""
_OURS = re.compile(r".+-[0-9a-f]{12}")
"""Ids of sandboxes; containers of an engine have others below the same parent."""
_STARTING_S = 120.0
"""A group may be empty for so long while its sandbox starts, on a busy host."""
_V1_CONTROLLERS = ("memory", "pids", "cpu", "cpuacct")

HOW_TO_DELEGATE = (
    "limits need a writable control group: run as root, or under "
    "`systemd-run --user --scope -p Delegate=yes swe-aem ...`, or switch them off with --no-limits"
)


@dataclass(frozen=True)
class Cgroup:
    """The control groups of one sandbox: one directory with version 2, one per controller with version 1."""

    directories: tuple[Path, ...]
    unified: bool

    @property
    def procs(self) -> list[Path]:
        """Files into which a process writes `0` to join the group."""
        return [directory / "cgroup.procs" for directory in self.directories]

    @property
    def cpu_counter(self) -> Path | None:
        """The file with the processor time of the group: `cpu.stat` (version 2) or `cpuacct.usage` (version 1)."""
        name = "cpu.stat" if self.unified else "cpuacct.usage"
        return next((directory / name for directory in self.directories if (directory / name).exists()), None)

    def limit_hits(self) -> LimitHits:
        """Processes that the memory limit has ended, and starts that the process limit has refused, so far."""
        memory = self._read("memory.events" if self.unified else "memory.oom_control")
        return LimitHits(oom_kills=counter(memory, "oom_kill"), pids_refused=counter(self._read("pids.events"), "max"))

    def _read(self, name: str) -> str:
        for directory in self.directories:
            if (directory / name).exists():
                return (directory / name).read_text()
        return ""

    def peak_memory_bytes(self) -> int | None:
        """The most memory that the group has held; None if its kernel does not say (before 5.19 with version 2)."""
        peak = self._read("memory.peak" if self.unified else "memory.max_usage_in_bytes")
        return int(peak) if peak else None

    @property
    def processes(self) -> list[int]:
        """The processes in the group."""
        return [int(pid) for procs in self.procs if procs.exists() for pid in procs.read_text().split()]

    @property
    def age_s(self) -> float:
        """Seconds since it was made."""
        made_s = [directory.stat().st_mtime for directory in self.directories if directory.exists()]
        return time.time() - max(made_s, default=time.time())

    def remove(self, timeout_s: float = 5.0) -> bool:
        """Kill what is left in the groups and remove them; False if the kernel still holds one after `timeout_s`."""
        end = time.monotonic() + timeout_s
        while True:
            left = [directory for directory in self.directories if not _removed(directory)]
            if not left or time.monotonic() > end:
                return not left
            time.sleep(0.005)


def counter(events: str, name: str) -> int:
    """A counter of an events file of a control group; 0 where it is not there.

    `oom_kill` of memory.events (version 2) or memory.oom_control (version 1), `max` of pids.events.
    """
    for line in events.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def _removed(directory: Path) -> bool:
    try:
        for pid in map(int, (directory / "cgroup.procs").read_text().split()):
            if pid:  # 0 is a process of another PID namespace; to `kill` it would mean the caller's own group
                os.kill(pid, signal.SIGKILL)
        directory.rmdir()
    except (FileNotFoundError, ProcessLookupError):
        return not directory.exists()
    except OSError:  # EBUSY until the last process is reaped
        return False
    return True


def create(id: str, limits: Limits) -> Cgroup | None:
    """Make the control groups of a sandbox and set its limits.

    Raises `UserError` when this process may not; without limits to set, that is None.
    """
    unified = (ROOT / "cgroup.controllers").exists()
    try:
        return _create_v2(id, limits) if unified else _create_v1(id, limits)
    except OSError as error:
        if limits.memory_bytes is None and limits.cpus is None and limits.pids is None:
            return None
        raise UserError(f"{HOW_TO_DELEGATE} ({error})") from None


def _write(path: Path, value: object) -> None:
    path.write_text(str(value))


def _create_v1(id: str, limits: Limits) -> Cgroup:
    _raise_weight(ROOT / "cpu" / PARENT, "cpu.shares", 1024, 262144)
    # `cpu` and `cpuacct` are often two names of one hierarchy.
    directories = {name: (ROOT / name / PARENT).resolve() / id for name in _V1_CONTROLLERS}
    for directory in directories.values():
        directory.mkdir(parents=True, exist_ok=True)
    if limits.memory_bytes is not None:
        _write(directories["memory"] / "memory.limit_in_bytes", limits.memory_bytes)
        swap = directories["memory"] / "memory.memsw.limit_in_bytes"
        if swap.exists():
            _write(swap, limits.memory_bytes)
    if limits.pids is not None:
        _write(directories["pids"] / "pids.max", limits.pids)
    if limits.cpus is not None:
        _write(directories["cpu"] / "cpu.cfs_period_us", _CPU_PERIOD_US)
        _write(directories["cpu"] / "cpu.cfs_quota_us", int(limits.cpus * _CPU_PERIOD_US))
    return Cgroup(tuple(dict.fromkeys(directories.values())), unified=False)


def _create_v2(id: str, limits: Limits) -> Cgroup:
    directory = _delegated_parent() / id
    directory.mkdir()
    if limits.memory_bytes is not None:
        _write(directory / "memory.max", limits.memory_bytes)
        swap = directory / "memory.swap.max"
        if swap.exists():
            _write(swap, 0)
    if limits.pids is not None:
        _write(directory / "pids.max", limits.pids)
    if limits.cpus is not None:
        _write(directory / "cpu.max", f"{int(limits.cpus * _CPU_PERIOD_US)} {_CPU_PERIOD_US}")
    return Cgroup((directory,), unified=True)


def _delegated_parent() -> Path:
    """The parent group of all sandboxes, prepared so that its children may have limits.

    A group with processes in it cannot hand controllers to children (the kernel's no-internal-process rule), so where
    only this process's own group is writable, its processes (this one, and `uv` or a shell above it) move to a leaf
    beside the sandboxes first.
    """
    controllers = "+memory +pids +cpu"
    base = ROOT if os.geteuid() == 0 else _own_group()
    if base.parent.name == PARENT:  # a second call: this process sits in the leaf already
        base = base.parent.parent
    elif base != ROOT:
        leaf = base / PARENT / "supervisor"
        leaf.mkdir(parents=True, exist_ok=True)
        for pid in (base / "cgroup.procs").read_text().split():
            _write(leaf / "cgroup.procs", pid)
    parent = base / PARENT
    parent.mkdir(exist_ok=True)
    _write(base / "cgroup.subtree_control", controllers)
    _write(parent / "cgroup.subtree_control", controllers)
    _raise_weight(parent, "cpu.weight", 100, 10000)
    return parent


def shared_parent() -> str | None:
    """Path of the parent group of all sandboxes, for an engine on this host; None where this process may not set it."""
    if os.geteuid() != 0:
        return None
    try:
        if (ROOT / "cgroup.controllers").exists():
            _delegated_parent()
        else:
            _raise_weight(ROOT / "cpu" / PARENT, "cpu.shares", 1024, 262144)
    except OSError:
        return None
    return f"/{PARENT}"


def _raise_weight(parent: Path, name: str, of_a_process: int, most: int) -> None:
    """Give the parent group of all sandboxes the processor weight of `WEIGHT_PER_PROCESSOR` processes per processor.

    A group has the weight of one process by default. Beside forty busy processes all sandboxes together would get one
    part in 41, less than any limit's clock allows for.
    """
    parent.mkdir(parents=True, exist_ok=True)
    _write(parent / name, min(most, of_a_process * WEIGHT_PER_PROCESSOR * (os.cpu_count() or 1)))


def _own_group() -> Path:
    return ROOT / Path("/proc/self/cgroup").read_text().strip().removeprefix("0::/")


def leftovers() -> dict[str, Cgroup]:
    """Groups of every sandbox on this host, by sandbox id."""
    if (ROOT / "cgroup.controllers").exists():
        return {path.name: Cgroup((path,), unified=True) for path in ROOT.rglob(f"{PARENT}/*") if path.is_dir()}
    found: dict[str, list[Path]] = {}
    for name in _V1_CONTROLLERS:
        for path in (ROOT / name / PARENT).resolve().glob("*/"):
            found.setdefault(path.name, []).append(path)
    return {id: Cgroup(tuple(dict.fromkeys(paths)), unified=False) for id, paths in found.items()}


def abandoned(known: Collection[str]) -> dict[str, Cgroup]:
    """Empty groups of sandboxes that are not among the ids `known`: what a run left whose records are gone, too, as
    with a state directory of its own. One of another state directory that is not empty, or young, may be in use."""
    return {
        id: group
        for id, group in leftovers().items()
        if _OURS.fullmatch(id) and id not in known and group.age_s > _STARTING_S and not group.processes
    }
