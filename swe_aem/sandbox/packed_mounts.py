"""Packed images as directories of this host: each is mounted once, read-only, for all processes of this user.

    mounts/points/<file>       where a file is mounted, below the state directory
    mounts/marks/<file>.json   that file as it was then: other processes see whether it still is
    mounts/holds/...           the processes that need it

The last process that gives a mount up unmounts it; of killed processes, the next one that looks does. Sandboxes that
started on a mount outlive it: the kernel keeps the file system for as long as anything uses it.
"""

import asyncio
import errno
import logging
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from weakref import WeakValueDictionary

from pydantic import ValidationError

from swe_aem.core.filesystem import network_filesystem
from swe_aem.errors import StartError, UserError
from swe_aem.sandbox.image_storage import FileMark, MountWatch, why_not_whole
from swe_aem.sandbox.images.ledger import Ledger
from swe_aem.sandbox.packed import tool
from swe_aem.sandbox.packed_copies import COPY_LIMIT, PackedCopies
from swe_aem.sandbox.roots import state_dir

logger = logging.getLogger(__name__)

_MOUNT_LIMIT_S = 60.0


def ledger_of_mounts() -> Ledger:
    """The processes of this host that need a mount, by file name."""
    return Ledger("mounts", str, directory=state_dir() / "mounts")


@dataclass(frozen=True)
class PackedTree:
    """The tree in a packed file."""

    path: Path
    """Where it is mounted."""
    watch: MountWatch
    """Says whether the file still holds it."""


class PackedMounts:
    """The mounts that this object's owner needs."""

    def __init__(self) -> None:
        self._copies: PackedCopies | None = None
        self._trees: dict[str, PackedTree] = {}
        self._reserved: set[str] = set()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @cached_property
    def _directory(self) -> Path:
        return state_dir() / "mounts"

    @cached_property
    def _ledger(self) -> Ledger:
        return ledger_of_mounts()

    async def mounted(self, file: Path) -> PackedTree:
        """The tree in a packed file, mounted now if it was not, or if what is mounted has failed.

        Raises `UserError` if this host or user cannot mount it, or if the limit of copies is no size, and `StartError`
        if that fails.
        """
        self._copies = self._copies or PackedCopies.configured()
        name, point = file.name, self._directory / "points" / file.name
        # One at a time: a group that starts at once would fill the pool of threads with waits for the ledger's lock.
        async with self._locks.setdefault(name, asyncio.Lock()):
            tree = self._trees.get(name)
            if tree is None or tree.watch.failed or not os.path.ismount(point):
                await self._ledger.reserve(name)
                self._reserved.add(name)
                local = file if self._copies is None else await self._copies.local(file)
                async with self._ledger.removing([name]):
                    tree = self._trees[name] = await self._joined_or_mounted(local, point)
        return tree

    async def _joined_or_mounted(self, file: Path, point: Path) -> PackedTree:
        try:
            watch = MountWatch(file, point)
            why = await asyncio.to_thread(why_not_whole, file)
        except OSError as error:
            raise StartError(f"{file} cannot be mounted: {error.strerror}") from None
        if why is not None:
            raise StartError(f"{file} is damaged: {why}; delete it and pack it again")
        mark = self._directory / "marks" / f"{point.name}.json"
        if _mark(mark) != watch.mark or not await asyncio.to_thread(_is_mounted, point):
            await _mount(file, point)
            mark.parent.mkdir(exist_ok=True)
            mark.write_text(watch.mark.model_dump_json())
        return PackedTree(point, watch)

    async def release(self) -> None:
        """Give up every mount, and unmount what no other process needs."""
        for name in tuple(self._reserved):
            self._ledger.release(name)
            self._reserved.discard(name)
        self._trees.clear()
        if self._copies is not None:
            self._copies.release()
        await self.sweep()

    async def sweep(self) -> list[str]:
        """Unmount what no live process needs; returns the names of the files."""
        gone = []
        for point in sorted((self._directory / "points").glob("*")):
            async with self._ledger.removing([point.name]) as holder:
                if holder is None and await _unmount(point):
                    gone.append(point.name)
        return gone


def loop_devices_can_be_used() -> bool:
    """Might this user mount by a loop device? Others mount by FUSE."""
    return os.geteuid() == 0


def _is_mounted(point: Path) -> bool:
    return not _is_broken(point) and os.path.ismount(point)


def _mark(path: Path) -> FileMark | None:
    """What was mounted; None where an earlier version did that, or a process was killed meanwhile."""
    try:
        return FileMark.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


async def _mount(file: Path, point: Path) -> None:
    """Mount in the place of what has failed there, in the first way that works."""
    if not await _unmount(point):
        raise StartError(f"{file} could not be mounted: what has failed at {point} cannot be unmounted")
    point.mkdir(parents=True, exist_ok=True)
    failures = []
    for command in _commands(file, point):
        code, said = await _run(command)
        if code == 0:
            return
        failures.append(f"{Path(command[0]).name} ended with {code}: {said or 'it said nothing'}")
    if file.suffix != ".squashfs":
        failures.append("FUSE mounts squashfs only")
    tried = "; ".join(failures)
    why = _of_network(file) or "; if the file is damaged, delete it and pack it again"
    raise StartError(f"{file} could not be mounted: {tried}{why}")


def _of_network(file: Path) -> str:
    """What to do if a file is on storage of a network, which may be what keeps the kernel from mounting it."""
    kind = network_filesystem(file.parent)
    return f" (it is on {kind}: with {COPY_LIMIT}=SIZE a copy on this host's disk is mounted instead)" if kind else ""


def _commands(file: Path, point: Path) -> list[list[str]]:
    """What mounts a file, the best way first. Raises `UserError` if this user has none."""
    if not loop_devices_can_be_used():
        if file.suffix != ".squashfs":
            raise UserError(
                f"{file} can be mounted only as root: pack the image with --format squashfs, or run as root"
            )
        return [_by_fuse(file, point)]
    kind = file.suffix.removeprefix(".")
    by_loop = [
        tool("mount", "mounting a packed image"),
        "-t",
        kind,
        "-o",
        "ro,nodev,nosuid,loop",
        str(file),
        str(point),
    ]
    # Root of a container may have no loop devices, and root of a user namespace may mount FUSE only.
    fuse_is_there = file.suffix == ".squashfs" and all(map(shutil.which, ("squashfuse", "fusermount3")))
    return [by_loop, _by_fuse(file, point)] if fuse_is_there else [by_loop]


def _by_fuse(file: Path, point: Path) -> list[str]:
    program = tool("squashfuse", "mounting a packed image without root")
    tool("fusermount3", "mounting a packed image without root")
    # the sandbox's own root is this user, who must own the files as in an unpacked root
    return [program, "-o", f"ro,uid={os.geteuid()},gid={os.getegid()}", str(file), str(point)]


async def _unmount(point: Path) -> bool:
    """Unmount and remove a mount point; False if the kernel says that it is busy."""
    command = ["umount", str(point)] if loop_devices_can_be_used() else ["fusermount3", "-u", str(point)]
    while _is_mounted(point) or _is_broken(point):
        code, said = await _run(command)
        if code != 0:
            logger.warning("%s stays mounted: %s; `swe-aem sandbox prune` tries again", point, said)
            return False
    with suppress(OSError):
        point.rmdir()
    return True


def _is_broken(point: Path) -> bool:
    """Is a file system in user space mounted there whose process is gone?"""
    try:
        os.statvfs(point)
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


async def _run(command: list[str]) -> tuple[int, str]:
    """Exit code of a program and what it said. It has ended when this returns, also where the caller is cancelled: a
    mount must not appear after the lock is given up."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(_MOUNT_LIMIT_S):
            said, _ = await process.communicate()
    except TimeoutError:
        return -1, f"{command[0]} took longer than {_MOUNT_LIMIT_S:.0f} s"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, said.decode("utf-8", "replace").strip()
