"""Does what an image lies on still hold it? A disk, a network mount or a process of FUSE may fail under a sandbox.

What was read into memory before can still be used then, so one file of an image works and the next one does not. No
command of a sandbox says so reliably. Looked at instead is the host's side, which nothing in a sandbox can reach: the
file's size and time, both of its ends as the disk gives them now, whether something answers at the mount point, and
what the kernel logged about the loop device.
"""

import asyncio
import mmap
import os
import re
import struct
import weakref
from abc import ABC, abstractmethod
from pathlib import Path

from swe_aem.core.base import Frozen
from swe_aem.sandbox.kernel_log import KernelLog

LOOK_LIMIT_S = 120.0
"""Storage that does not answer for so long has failed. A network mount may wait for its server for ever."""
_BLOCK_BYTES = 4096
_LOOP_MAJOR = 7
_SQUASHFS, _SQUASHFS_USED_AT = b"hsqs", 40
_EROFS, _EROFS_AT, _EROFS_BLOCK_BITS_AT, _EROFS_BLOCKS_AT = b"\xe2\xe1\xf5\xe0", 1024, 12, 36


class Watch(ABC):
    """Looks at one thing for all sandboxes of a process that use it. What has failed stays so: sandboxes that start
    afterwards get another watch."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._asked = self._answered = 0
        self._trouble: str | None = None

    @property
    def failed(self) -> bool:
        """Was something found?"""
        return self._trouble is not None

    async def trouble(self) -> str | None:
        """What has failed by now; None if nothing has. One look answers all who asked before it began."""
        self._asked += 1
        mine = self._asked
        async with self._lock:
            if self._trouble is None and self._answered < mine:
                latest = self._asked
                try:
                    async with asyncio.timeout(LOOK_LIMIT_S):
                        self._trouble = await asyncio.to_thread(self._look)
                except TimeoutError:
                    self._trouble = f"{self._what()} did not answer within {LOOK_LIMIT_S:.0f} s"
                self._answered = latest
        return self._trouble

    @abstractmethod
    def _what(self) -> str: ...

    @abstractmethod
    def _look(self) -> str | None: ...


class DirectoryWatch(Watch):
    """Watches a directory that sandboxes have below their overlay."""

    def __init__(self, path: Path) -> None:
        """Raises `OSError` if it is not there."""
        super().__init__()
        self._path = path
        self._inode = path.stat().st_ino

    def _what(self) -> str:
        return str(self._path)

    def _look(self) -> str | None:
        try:
            if self._path.stat().st_ino == self._inode:
                with os.scandir(self._path) as entries:
                    next(entries, None)
                return None
        except OSError as error:
            return f"{self._path}: {error.strerror}"
        return f"{self._path} was replaced"


class FileMark(Frozen):
    """A file as it was when it was mounted."""

    file: Path
    inode: int
    size_bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, file: Path, descriptor: int) -> "FileMark":
        """The mark of an open file."""
        now = os.fstat(descriptor)
        return cls(file=file, inode=now.st_ino, size_bytes=now.st_size, mtime_ns=now.st_mtime_ns)


class MountWatch(Watch):
    """Watches a packed file, which it keeps open, and where it is mounted. A file that loses its name on a disk of this
    host still has its content; on a network mount it may not, and reading it says so."""

    def __init__(self, file: Path, point: Path, *, kernel_log: KernelLog | None = None) -> None:
        """To be made before the file is mounted; raises `OSError`."""
        super().__init__()
        self._file, self._point = file, point
        self._descriptor = _open_uncached(file)
        weakref.finalize(self, os.close, self._descriptor)
        self._log = kernel_log or KernelLog()
        self.mark = FileMark.of(file, self._descriptor)
        self._ends = self._read_ends()

    def _what(self) -> str:
        return str(self._file)

    def _look(self) -> str | None:
        try:
            now = FileMark.of(self._file, self._descriptor)
            if now != self.mark:
                return f"{self._file} was changed while it was mounted: {_difference(self.mark, now)}"
            if self._read_ends() != self._ends:
                return f"{self._file} was changed while it was mounted"
        except OSError as error:
            return f"{self._file} cannot be read: {error.strerror}"
        try:
            os.statvfs(self._point)  # asks a process of FUSE, where the kernel may remember what `stat` says
            return self._logged(self._point.stat().st_dev)
        except FileNotFoundError:
            return None  # unmounted by its last process: those who started on it keep it
        except OSError as error:
            return f"what is mounted at {self._point} does not answer: {error.strerror}"

    def _read_ends(self) -> tuple[bytes, bytes]:
        last = max(0, self.mark.size_bytes - 1) // _BLOCK_BYTES * _BLOCK_BYTES
        return self._read(0), self._read(last)

    def _read(self, offset: int) -> bytes:
        with mmap.mmap(-1, _BLOCK_BYTES) as block:  # aligned to a page, as reading past the cache demands
            count = os.preadv(self._descriptor, [block], offset)
            return block[:count]

    def _logged(self, device: int) -> str | None:
        """An error that the kernel logged for the loop device."""
        if os.major(device) != _LOOP_MAJOR:
            return None
        wanted = re.compile(rb"I/O error.* dev loop%d\b" % os.minor(device))
        found = [message for message in self._log.new() if wanted.search(message)]
        return f"the kernel could not read {self._file}: {_text(found[0])}" if found else None


def why_not_whole(file: Path) -> str | None:
    """Why a packed file cannot be all that was written: it has less than its own head says, or no head. None if it has
    enough; what is in it is not compared. Raises `OSError`."""
    with file.open("rb") as opened:
        head = opened.read(_BLOCK_BYTES)
    size_bytes, wanted_bytes = file.stat().st_size, _wanted_bytes(head)
    if wanted_bytes is None:
        return "it begins like no squashfs and no erofs"
    return None if size_bytes >= wanted_bytes else f"it has {size_bytes:,} of {wanted_bytes:,} bytes"


def _wanted_bytes(head: bytes) -> int | None:
    if len(head) < _BLOCK_BYTES:
        return None
    if head.startswith(_SQUASHFS):
        (used,) = struct.unpack_from("<Q", head, _SQUASHFS_USED_AT)
        return used
    if head[_EROFS_AT:].startswith(_EROFS):
        (blocks,) = struct.unpack_from("<I", head, _EROFS_AT + _EROFS_BLOCKS_AT)
        return blocks << head[_EROFS_AT + _EROFS_BLOCK_BITS_AT]
    return None


def _open_uncached(file: Path) -> int:
    """Open a file so that reading asks the disk; some file systems cannot do that."""
    flags = os.O_RDONLY | os.O_CLOEXEC
    try:
        return os.open(file, flags | os.O_DIRECT)
    except OSError:
        return os.open(file, flags)


def _difference(before: FileMark, now: FileMark) -> str:
    if before.size_bytes != now.size_bytes:
        return f"it had {before.size_bytes:,} bytes and has {now.size_bytes:,}"
    return "its content was written at another time"


def _text(message: bytes) -> str:
    return message.partition(b"\n")[0].decode("utf-8", "replace").strip()
