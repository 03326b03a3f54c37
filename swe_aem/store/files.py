"""Small files that are replaced as a whole, and the lock of a directory."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from swe_aem.core.filesystem import network_filesystem
from swe_aem.errors import UserError


def replace(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part, and so does one after a crash."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory survive a crash."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def is_locked(directory: Path, name: str = ".lock") -> bool:
    """Does a process hold the directory's lock of that name?"""
    try:
        with (directory / name).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # for an instant
    except BlockingIOError:
        return True
    except OSError:  # there is none
        return False
    return False


def _lock(file: IO[str]) -> bool:
    """Lock an open file; False if another process holds it, and does not only look whether one does."""
    for wait_s in (0.0, 0.05, 0.2):
        time.sleep(wait_s)
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    return False


@contextmanager
def locked(directory: Path, name: str = ".lock") -> Iterator[None]:
    """Hold the directory's lock of that name; raises `UserError` if another process holds it, or the file system has no
    locks. The kernel frees it when we die."""
    path = directory / name
    with path.open("a+", encoding="utf-8") as file:
        try:
            free = _lock(file)
        except OSError as error:
            kind = network_filesystem(directory)
            where = f"{directory} cannot be locked{f' on {kind}' if kind else ''} ({error.strerror})"
            raise UserError(
                f"{where}, and two processes must not write there: choose a directory on a disk of this host, or mount "
                "the storage with locks"
            ) from error
        if not free:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise UserError(
                f"{directory} is being written by process {owner}: wait until it ends, or write to another place"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
