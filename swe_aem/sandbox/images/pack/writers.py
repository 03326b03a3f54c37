"""Writing a tar stream as a read-only file system: squashfs straight from the stream, EROFS by way of a tree on disk.

erofs-utils reads archives only since version 1.7, which Debian 12 does not have.
"""

import asyncio
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import assert_never

from swe_aem.core.owner import Lease
from swe_aem.errors import UserError
from swe_aem.sandbox.images.stream import feed, tar_command
from swe_aem.sandbox.packed import PackFormat, tool

_DRAFT_LIFE_S = 2 * 86400.0
_LEASE = "lease.json"
SQUASHFS_COMPRESSION = "zstd"
"""Compression of squashfs, at its default level: sqfstar 4.5 takes no other."""


def require_tools(format: PackFormat) -> None:
    """Raise `UserError` if this host or user cannot write that format."""
    match format:
        case "squashfs":
            tool("sqfstar", "packing as squashfs")
        case "erofs":
            tool("mkfs.erofs", "packing as erofs")
            tool("tar", "packing as erofs")
            if os.geteuid() != 0:
                raise UserError("packing as erofs needs root, to keep owners and devices: use --format squashfs")
        case unknown:
            assert_never(unknown)


async def write_image(stream: AsyncIterator[bytes], format: PackFormat, file: Path, draft: Path) -> None:
    """Write a tar stream as a file system to `file`, on the disk when this returns. `draft` is a directory for what is
    needed meanwhile. Raises `InfrastructureError` if a program fails."""
    match format:
        case "squashfs":
            own = [
                "-root-mode",
                "755",
                "-root-uid",
                "0",
                "-root-gid",
                "0",
                "-comp",
                SQUASHFS_COMPRESSION,
                "-quiet",
                "-no-progress",
            ]
            await feed([tool("sqfstar", "packing as squashfs"), *own, str(file)], stream, "sqfstar could not write it")
        case "erofs":
            tree = draft / "tree"
            tree.mkdir(mode=0o755)
            tar = tar_command(tool("tar", "packing as erofs"), str(tree), as_root=True)
            await feed(tar, stream, "tar could not unpack the image")
            mkfs = [tool("mkfs.erofs", "packing as erofs"), "--quiet", "-zlz4hc", str(file), str(tree)]
            await feed(mkfs, _nothing(), "mkfs.erofs could not write it")
        case unknown:
            assert_never(unknown)
    await asyncio.to_thread(_flush, file)


async def write_layer(upper: Path, file: Path) -> None:
    """Write a kept layer, whiteouts and an overlay's attributes included, as squashfs; raises as `write_image`."""
    options = ["-comp", SQUASHFS_COMPRESSION, "-quiet", "-no-progress", "-xattrs"]
    command = [tool("mksquashfs", "packing a prepared start"), str(upper), str(file), *options]
    await feed(command, _nothing(), "mksquashfs could not write it")
    await asyncio.to_thread(_flush, file)


@asynccontextmanager
async def open_draft(drafts: Path) -> AsyncIterator[Path]:
    """A directory of our own below `drafts`, removed at the end; `sweep_drafts` removes those of dead processes."""
    draft = drafts / uuid.uuid4().hex
    draft.mkdir(parents=True)
    try:
        (draft / _LEASE).write_text(Lease.start(_DRAFT_LIFE_S).model_dump_json())
        yield draft
    finally:
        await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)


def sweep_drafts(drafts: Path) -> None:
    """Remove the drafts of processes that have ended; of those on other hosts, after two days."""
    for draft in drafts.glob("*"):
        lease = _lease(draft)
        if lease is not None and lease.orphaned:
            shutil.rmtree(draft, ignore_errors=True)


def has_live_drafts(drafts: Path) -> bool:
    """Is any process working on a draft?"""
    leases = map(_lease, drafts.glob("*"))
    return any(lease is not None and not lease.orphaned for lease in leases)


def _lease(draft: Path) -> Lease | None:
    try:
        return Lease.model_validate_json((draft / _LEASE).read_bytes())
    except (OSError, ValueError):  # made or removed at this moment
        return None


async def _nothing() -> AsyncIterator[bytes]:
    for chunk in ():
        yield chunk


def _flush(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def in_threads(chunks: Iterator[bytes], batch_bytes: int = 4 << 20) -> AsyncIterator[bytes]:
    """An iterator whose chunks take processor time, some at a time in another thread."""
    while batch := await asyncio.to_thread(_batch, chunks, batch_bytes):
        yield batch


def _batch(chunks: Iterator[bytes], batch_bytes: int) -> bytes:
    batch = bytearray()
    for chunk in chunks:
        batch += chunk
        if len(batch) >= batch_bytes:
            break
    return bytes(batch)
