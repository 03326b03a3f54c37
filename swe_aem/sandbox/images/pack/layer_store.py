"""Layers on disk, by digest, until the images that need them are packed.

    <hex>          a whole layer, checked
    <hex>.part     what has been downloaded of one; the next download resumes there

A part belongs to whoever has locked it. Where that is another process, or where the disk cannot lock, a part with a
name of its own is downloaded. No layer is used whose digest was not checked, whoever wrote it.
"""

import asyncio
import fcntl
import hashlib
import os
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from swe_aem.sandbox.images.failures import PullError, PullFailure
from swe_aem.sandbox.images.pack.manifest import Descriptor
from swe_aem.sandbox.images.pack.registry import RegistryClient
from swe_aem.sandbox.images.reference import Reference

_READ_BYTES = 4 << 20


class LayerStore:
    """The layers below one directory, which several processes and hosts may use."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._locks: dict[str, asyncio.Lock] = {}

    def path(self, digest: str) -> Path:
        """Where a layer is once it is whole."""
        return self.directory / digest.removeprefix("sha256:")

    async def download(
        self, client: RegistryClient, reference: Reference, blob: Descriptor, auth: Mapping[str, str] | None
    ) -> AsyncIterator[int]:
        """Have a layer on disk; yields the bytes that are there so far. Raises `PullError` and `OSError`.

        Of two downloads of one layer in this process, the second waits for the first.
        """
        async with self._locks.setdefault(blob.digest, asyncio.Lock()):
            path = self.path(blob.digest)
            if path.exists():
                with suppress(FileNotFoundError):
                    os.utime(path)  # used now
                    yield blob.size_bytes
                    return
            self.directory.mkdir(parents=True, exist_ok=True)
            with _opened_part(path.with_name(f"{path.name}.part")) as (part, name):
                async for there_bytes in _downloaded(client, reference, blob, auth, part, name):
                    yield there_bytes
                await asyncio.to_thread(os.fsync, part.fileno())
                name.rename(path)

    def keep_at_most(self, limit_bytes: int, but: Iterable[str] = ()) -> None:
        """Remove whole layers, the least recently used first, until they have no more than `limit_bytes` together.
        Layers with the digests `but` stay, and parts: a download may be under way."""
        kept = {self.path(digest) for digest in but}
        layers = []
        for path in self.directory.glob("*"):
            with suppress(FileNotFoundError):
                if path.suffix != ".part" and path not in kept:
                    layers.append((path.stat().st_mtime, path.stat().st_size, path))
        total = sum(size for _, size, _ in layers)
        for _, size, path in sorted(layers):
            if total <= limit_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size

    def discard(self) -> None:
        """Remove everything; nothing if another process is downloading: it needs whole layers, too."""
        if not all(map(_is_free, self.directory.glob("*.part"))):
            return
        for path in self.directory.glob("*"):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.directory.rmdir()


@contextmanager
def _opened_part(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """The part at `path`, or one of our own if another process has it; and its name. One that breaks off stays."""
    with path.open("a+b") as part:
        if _lock(part) and _is_at(part, path):
            yield part, path
            return
    own = path.with_name(f"{path.name.removesuffix('.part')}.{uuid.uuid4().hex[:12]}.part")
    with own.open("x+b") as part:
        _lock(part)
        try:
            yield part, own
        finally:
            own.unlink(missing_ok=True)


def _lock(part: BinaryIO) -> bool:
    try:
        fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # locked, or on a disk that cannot lock
        return False
    return True


def _is_at(part: BinaryIO, path: Path) -> bool:
    """Is the opened file still the one of that name? Whoever had it before may have finished or removed it."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(part.fileno()), path.stat())
    return False


def _is_free(path: Path) -> bool:
    with suppress(FileNotFoundError), path.open("rb") as part:
        return _lock(part)
    return False


async def _downloaded(
    client: RegistryClient,
    reference: Reference,
    blob: Descriptor,
    auth: Mapping[str, str] | None,
    part: BinaryIO,
    name: Path,
) -> AsyncIterator[int]:
    """Fill a part up to the whole layer and check it; one that is not what it must be is removed."""
    digest, there_bytes = await asyncio.to_thread(_digest_so_far, part)
    if there_bytes < blob.size_bytes or not there_bytes:
        async with client.blob(reference, blob.digest, auth, there_bytes) as (begins, chunks):
            if begins != there_bytes:  # the registry begins at 0 only
                part.seek(0)
                part.truncate()
                digest, there_bytes = hashlib.sha256(), 0
            async for chunk in chunks:
                part.write(chunk)
                digest.update(chunk)
                there_bytes += len(chunk)
                if there_bytes > blob.size_bytes:
                    break
                yield there_bytes
    part.flush()
    if there_bytes < blob.size_bytes:  # what is there stays for the next attempt
        raise PullError(PullFailure.OTHER, f"layer {blob.digest[:19]} broke off after {there_bytes} bytes")
    if f"sha256:{digest.hexdigest()}" != blob.digest:
        name.unlink(missing_ok=True)
        raise PullError(
            PullFailure.CORRUPT,
            f"layer {blob.digest[:19]} does not have that digest, or more than {blob.size_bytes} bytes",
        )


def _digest_so_far(part: BinaryIO) -> tuple["hashlib._Hash", int]:
    digest, size_bytes = hashlib.sha256(), 0
    part.seek(0)
    while chunk := part.read(_READ_BYTES):
        digest.update(chunk)
        size_bytes += len(chunk)
    return digest, size_bytes
