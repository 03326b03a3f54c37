"""Who started a sandbox, so that a later run can tell an orphan from a neighbour's."""

import os
import socket
import time
from functools import cache
from pathlib import Path

from swe_aem.core.base import Frozen


def start_ticks(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot; None if it does not run."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


@cache
def boot_id() -> str:
    """Changes with every boot; empty where the kernel does not tell (not Linux)."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


class Owner(Frozen):
    """The process that started a sandbox."""

    host: str
    pid: int
    start_ticks: int
    boot: str

    @classmethod
    def this_process(cls) -> "Owner":
        """The owner for sandboxes that the current process starts."""
        pid = os.getpid()
        return cls(host=socket.gethostname(), pid=pid, start_ticks=start_ticks(pid) or 0, boot=boot_id())

    def alive(self) -> bool:
        """Does it still run? An owner on another host counts as alive: only its deadline can tell from here."""
        if self.host != socket.gethostname():
            return True
        return self.boot == boot_id() and start_ticks(self.pid) == self.start_ticks


class Lease(Frozen):
    """What every sandbox bears: its owner, and when (in seconds since 1970) anybody may remove it."""

    owner: Owner
    created_s: float
    deadline_s: float

    @classmethod
    def start(cls, ttl_s: float) -> "Lease":
        """A lease of this process from now on. Wall clock on purpose: other processes and boots must read it."""
        now = time.time()
        return cls(owner=Owner.this_process(), created_s=now, deadline_s=now + ttl_s)

    @property
    def expired(self) -> bool:
        """Is the deadline over?"""
        return time.time() > self.deadline_s

    @property
    def orphaned(self) -> bool:
        """May anybody remove the sandbox?"""
        return self.expired or not self.owner.alive()
