"""A lock that works on every disk that several hosts share, and that nobody can leave behind for good.

    <name>.lock/<token>    an empty file, whose name is the lease of whoever has the lock

Taking it is the rename of a directory, which every file system does in one step, NFS included; `flock` there may be
local to a host, or missing. A holder that is gone is replaced by the rename of its token, which one process can do. One
on this host is gone when its process is, or its lease over; one on another host, when its lease is over.
"""

import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from swe_aem.core.owner import Lease, Owner

LEASE_S = 900.0
"""Seconds that a holder may take."""
_POLL_S = 0.02


@contextmanager
def lease_lock(path: Path, wait_s: float) -> Iterator[None]:
    """Hold the lock at `path`; its directory must exist. Raises `TimeoutError` after `wait_s`, and `OSError`."""
    end_s = time.monotonic() + wait_s
    while (token := _taken(path) or _taken_over(path)) is None:
        if time.monotonic() > end_s:
            raise TimeoutError(f"{path} has been locked for {wait_s:.0f} s")
        time.sleep(_POLL_S)
    try:
        yield
    finally:
        token.unlink(missing_ok=True)
        with suppress(OSError):  # another has taken it already
            path.rmdir()


def _taken(path: Path) -> Path | None:
    """Take a lock that nobody has: a directory can be renamed to one that is not there, or empty."""
    token = _token()
    draft = path.with_name(f".{uuid.uuid4().hex}.draft")
    draft.mkdir()
    try:
        (draft / token).touch()
        with suppress(OSError):  # somebody has it
            draft.rename(path)
        return path / token if (path / token).exists() else None  # a network may lose the rename's answer
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _taken_over(path: Path) -> Path | None:
    """Take a lock from a holder that is gone; of all who try, one succeeds."""
    mine = path / _token()
    with suppress(FileNotFoundError):
        for held in path.glob("[!.]*"):
            if _lease(held.name).orphaned:
                held.rename(mine)
                return mine
    return None


def _token() -> str:
    lease = Lease.start(LEASE_S)
    owner = lease.owner
    return f"{lease.deadline_s:.0f},{owner.pid},{owner.start_ticks},{owner.boot},{uuid.uuid4().hex[:12]},{owner.host}"


def _lease(token: str) -> Lease:
    deadline_s, pid, ticks, boot, _, host = token.split(",", 5)
    owner = Owner(host=host, pid=int(pid), start_ticks=int(ticks), boot=boot)
    return Lease(owner=owner, created_s=float(deadline_s) - LEASE_S, deadline_s=float(deadline_s))
