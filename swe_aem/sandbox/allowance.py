"""What this process may use of its host: free memory and processors, within the limits of the control groups it is in.

A container sees its own group as the root. A job of Slurm or a scope of systemd is in a group below the root, and the
groups between limit it too.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from swe_aem.sandbox.cgroup import ROOT, counter

PROC = Path("/proc")


def free_memory_bytes(proc: Path = PROC, root: Path = ROOT) -> int:
    """Free memory of the host, or what the tightest group leaves of its limit if that is less. What the kernel keeps
    of files and can drop is free."""
    left = [_host_memory_bytes(proc)]
    for group in _own_groups("memory", proc, root):
        for limit, used, droppable in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            for limit_bytes in _numbers(group / limit):
                used_bytes = sum(_numbers(group / used)) - counter(_text(group / "memory.stat"), droppable)
                left.append(max(0, limit_bytes - max(0, used_bytes)))
    return min(left)


def processors(proc: Path = PROC, root: Path = ROOT) -> int:
    """How many processors this process may keep busy, at least 1."""
    found = [len(os.sched_getaffinity(0))]
    for group in _own_groups("cpu", proc, root):
        for quota in (
            _numbers(group / "cpu.max"),
            _numbers(group / "cpu.cfs_quota_us") + _numbers(group / "cpu.cfs_period_us"),
        ):
            if len(quota) == 2 and quota[1]:
                found.append(quota[0] // quota[1])
    return max(1, min(found))


def _host_memory_bytes(proc: Path) -> int:
    text = _text(proc / "meminfo")
    for name in ("MemAvailable", "MemFree"):
        if found := re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE):
            return int(found[1]) << 10
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _own_groups(controller: str, proc: Path, root: Path) -> Iterator[Path]:
    """Directories of the groups of either version that this process is in, for a controller: up to the root, for each
    may have a limit."""
    lines = ["::/", f":{controller}:/", *_text(proc / "self" / "cgroup").splitlines()]
    found: dict[Path, None] = {}
    for line in lines:
        if line.count(":") < 2:
            continue
        _, names, path = line.split(":", 2)
        if not names or controller in names.split(","):
            own = PurePosixPath(path.lstrip("/"))
            for group in (own, *own.parents):
                found[root / (controller if names else "") / group] = None
    return iter(found)


def _text(path: Path) -> str:
    """What is in a file, nothing where it cannot be read."""
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


def _numbers(path: Path) -> list[int]:
    """The numbers in a file of a control group; none where it is missing, or says that there is no limit."""
    words = _text(path).split()
    return [int(word) for word in words] if all(word.isdecimal() for word in words) else []
