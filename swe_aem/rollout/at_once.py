"""`AtOnce`: how much of a rollout runs at once on this host, where the settings do not say.

Memory, processors, free disk and the limit of open files each carry so many trajectories; the scarcest decides. What is
known of a sandbox is its limits, and most sandboxes use little of theirs: an eighth is counted. Nothing that a
trajectory means depends on these numbers, so a rerun on another host may have others.
"""

import os
import shutil
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import NamedTuple

from swe_aem.core import Limits
from swe_aem.core.base import Frozen
from swe_aem.sandbox import allowance
from swe_aem.sandbox.open_files import FILES_PER_TRAJECTORY, OTHER_FILES, raise_limit

_GIB = 1 << 30
_USED_SHARE = 0.125
"""What sandboxes use of their limits, on average."""
_TAKEN_SHARE = 0.8
"""What of free memory and disk may be taken."""
_AGENTS_PER_PROCESSOR = 4
"""An agent mostly waits for its policy."""
_SCRIPTS_PER_PROCESSOR = 2
"""A script never does."""
_MOST_AGENTS = 512
"""What one process drives well."""
_STARTING = range(4, 65)
"""Fewest and most sandboxes that start at once."""
_LEAST_GRADING = 2
_ASSUMED = Limits()
"""Stands for limits that are switched off."""
_ELSEWHERE = (4, 4, 2)
"""Where sandboxes are on a host that is not known: concurrency, starting, grading."""
_DISKS = {"docker": "/var/lib/docker", "podman": "/var/lib/containers"}
"""Where an engine of this host keeps what sandboxes write; bubblewrap keeps it in memory."""


class Host(NamedTuple):
    """What a host has for rollouts."""

    processors: int
    memory_bytes: int
    """Free, and allowed to this process."""
    disk_bytes: dict[str, int]
    """Free space where each engine keeps what sandboxes write."""
    open_files: int
    """Most files that a process may open."""


class AtOnce(Frozen):
    """How much runs at once."""

    concurrency: int
    """Agent sandboxes that exist."""
    starting: int
    """Sandboxes that start, those for grading included."""
    grading: int
    """Evaluation scripts that run."""
    reason: str = ""
    """Why, in one line; empty where nothing was derived from the host."""

    @staticmethod
    def on(host: Host, sandbox: str, limits: Limits, *, scripted: bool) -> "AtOnce":
        """What a host carries of sandboxes of a type with such limits, whose agents are scripts or ask a policy."""
        if sandbox != "bubblewrap" and (sandbox not in _DISKS or os.environ.get("DOCKER_HOST", "unix:")[:5] != "unix:"):
            concurrency, starting, grading = _ELSEWHERE
            return AtOnce(concurrency=concurrency, starting=starting, grading=grading)
        memory_bytes = limits.memory_bytes or _ASSUMED.memory_bytes or 0
        disk_bytes = limits.disk_bytes or _ASSUMED.disk_bytes or 0
        in_memory = memory_bytes + (disk_bytes if sandbox == "bubblewrap" else 0)
        carried = {_memory_text(host, in_memory): _carried(host.memory_bytes, in_memory)}
        if sandbox in _DISKS:
            free = host.disk_bytes[sandbox]
            carried[f"{free / _GIB:.0f} GiB of free disk"] = _carried(free, disk_bytes)
        processors = max(_LEAST_GRADING, int(host.processors / max(1.0, limits.cpus or 1.0)))
        grading = max(1, min(processors, min(carried.values()) // 3))
        per_processor = _SCRIPTS_PER_PROCESSOR if scripted else _AGENTS_PER_PROCESSOR
        most = {
            **{why: sandboxes - grading for why, sandboxes in carried.items()},
            f"{host.processors} processors": per_processor * host.processors,
            f"{host.open_files} open files": (host.open_files - OTHER_FILES) // FILES_PER_TRAJECTORY,
            "this process": _MOST_AGENTS,
        }
        scarcest = min(most, key=lambda why: most[why])
        concurrency = max(1, most[scarcest])
        starting = min(max(2 * host.processors, _STARTING[0]), _STARTING[-1])
        return AtOnce(concurrency=concurrency, starting=starting, grading=grading, reason=scarcest)

    def told(self, given: Collection[str]) -> str | None:
        """What a person is told where a run begins, None where all is `given`, setting by setting."""
        derived = [name for name in ("concurrency", "starting", "grading") if name not in given]
        if not self.reason or not derived:
            return None
        shown = ", ".join(f"--{name} {getattr(self, name)}" for name in derived)
        return f"derived from this host: {shown}; the scarcest is {self.reason}"


@cache
def this_host() -> Host:
    """The host as it is when this is first asked, so that all of a process's work has the same numbers."""
    return Host(
        processors=allowance.processors(),
        memory_bytes=allowance.free_memory_bytes(),
        disk_bytes={engine: _free_bytes(Path(place)) for engine, place in _DISKS.items()},
        open_files=raise_limit(),
    )


def _carried(free_bytes: int, limit_bytes: int) -> int:
    """How many sandboxes with such a limit so much carries."""
    return int(_TAKEN_SHARE * free_bytes / (_USED_SHARE * limit_bytes))


def _memory_text(host: Host, limit_bytes: int) -> str:
    return f"{host.memory_bytes / _GIB:.0f} GiB of free memory, at {_USED_SHARE * limit_bytes / _GIB:.3g} GiB a sandbox"


def _free_bytes(place: Path) -> int:
    return shutil.disk_usage(place if place.exists() else "/").free
