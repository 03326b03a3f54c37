"""Who started a sandbox or a scratch directory, so that a later run can tell an abandoned one from one in use."""

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
    """An id that changes with every boot; empty where the kernel has none (not Linux)."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


class Owner(Frozen):
    """The process that started something."""

    host: str
    pid: int
    start_ticks: int
    boot: str

    @classmethod
    def this_process(cls) -> "Owner":
        """The owner of what the current process starts."""
        pid = os.getpid()
        return cls(host=socket.gethostname(), pid=pid, start_ticks=start_ticks(pid) or 0, boot=boot_id())

    def alive(self) -> bool:
        """Is the owner still running? One on another host counts as alive: from here only the deadline can tell."""
        if self.host != socket.gethostname():
            return True
        return self.boot == boot_id() and start_ticks(self.pid) == self.start_ticks


class Lease(Frozen):
    """Recorded with every sandbox: its owner, and when (in seconds since 1970) anybody may remove it."""

    owner: Owner
    created_s: float
    deadline_s: float

    @classmethod
    def start(cls, ttl_s: float) -> "Lease":
        """A lease of this process that starts now. Wall clock, because other processes and later boots read it."""
        now = time.time()
        return cls(owner=Owner.this_process(), created_s=now, deadline_s=now + ttl_s)

    @property
    def expired(self) -> bool:
        """Has the deadline passed?"""
        return time.time() > self.deadline_s

    @property
    def orphaned(self) -> bool:
        """May anybody remove the sandbox?"""
        return self.expired or not self.owner.alive()
