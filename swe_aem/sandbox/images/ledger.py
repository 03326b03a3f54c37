"""When each image was last used, where it came from, and which processes need it. Files in the cache, one per image.

    images/<scope>/entries/<key>.json    what is known; its modification time is the last use
    images/<scope>/holds/<key>.<id>.json a process that needs the image; gone with that process
    images/<scope>/holds/<key>.lock/     there while the image is removed, or reserved

A use is one `utime` on the hot path, so no lock and no database: a start must neither wait for it nor fail because of
it. The first use in a process also reserves the image until that process ends. That takes the lock, so a removal either
sees the reservation or is over before the image is looked up.
"""

import asyncio
import hashlib
import logging
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from swe_aem.cache import cache_dir
from swe_aem.core.base import Frozen
from swe_aem.core.owner import Lease
from swe_aem.errors import UserError
from swe_aem.sandbox.engines import DOCKER, EngineKind
from swe_aem.sandbox.images.holds import RENEWER, Hold, read_holds
from swe_aem.sandbox.images.lease_lock import lease_lock
from swe_aem.sandbox.images.reference import canonical

logger = logging.getLogger(__name__)

LOCK_WAIT_S = 120.0
"""A removal holds the lock for as long as the engine takes for one image."""
_HOLD_S = 30 * 86400.0
"""Longest hold, in seconds."""

Origin = Literal["pull", "build", "unpack", "layer", "bench"]


class LedgerEntry(Frozen):
    """The record of one image."""

    name: str
    """Full reference, or the name of an unpacked root's directory."""
    origin: Origin | None = None
    """How this program got it (`layer`: it kept what preparing a task's start wrote on top of an image; `bench`: it was
    pulled for as long as there is room for it); None if it did not, so that it must not remove the image."""
    image_id: str | None = None
    digest: str | None = None
    """The registry's digest of its manifest."""
    size_bytes: int | None = None


class Ledger:
    """The ledger of one engine, or of the cache's unpacked root file systems, or of packed images."""

    def __init__(
        self, scope: str, full_name: Callable[[str], str] = canonical, *, directory: Path | None = None
    ) -> None:
        """In the cache, unless `directory` says where."""
        self.directory = directory or cache_dir() / "images" / scope
        self._full_name = full_name
        self._reserved: dict[tuple[int, str], Path] = {}

    @classmethod
    def of_engine(cls, engine: EngineKind = DOCKER) -> "Ledger":
        """For this user's engine of that kind: images of one engine say nothing about another."""
        return cls(f"engine-{hashlib.sha256(engine.identity.encode()).hexdigest()[:12]}")

    @classmethod
    def of_roots(cls) -> "Ledger":
        """For root file systems in the cache; their names are those of their directories."""
        return cls("rootfs", str)

    @classmethod
    def of_packed(cls, directory: Path) -> "Ledger":
        """For the images that are packed in a directory."""
        return cls(f"packed-{hashlib.sha256(str(directory).encode()).hexdigest()[:12]}")

    @classmethod
    def beside_packed(cls, directory: Path) -> "Ledger":
        """For the files in a directory of packed images, by file name. It lies there, so that hosts which share the
        directory see who uses what."""
        return cls("packed", str, directory=directory / ".uses")

    @classmethod
    def of_copies(cls) -> "Ledger":
        """For copies of packed files on this host's disk, by file name."""
        return cls("packed-copies", str)

    # -- uses ---------------------------------------------------------------------------------------------------------

    async def reserve(self, name: str) -> None:
        """Keep an image until this process ends or `release`s it; to be called before it is looked up. Never fails."""
        mine = os.getpid(), self._full_name(name)
        if mine in self._reserved:
            return
        try:
            self._reserved[mine] = await asyncio.to_thread(self._hold, mine[1])
        except OSError as error:  # a cache that cannot be written must not keep a sandbox from starting
            logger.debug("image %s could not be reserved: %s", name, error)

    def release(self, name: str) -> None:
        """Give up this object's reservation of an image. Never fails."""
        path = self._reserved.pop((os.getpid(), self._full_name(name)), None)
        if path is not None:
            self._drop(path)

    def use(self, name: str) -> None:
        """Note that an image is used now. Never fails."""
        try:
            self.touch(name)
        except OSError as error:
            logger.debug("the use of image %s could not be noted: %s", name, error)

    def touch(self, name: str, at_s: float | None = None) -> None:
        """Set the time of last use (seconds since 1970; now by default); raises `OSError`."""
        name = self._full_name(name)
        times = None if at_s is None else (at_s, at_s)
        path = self._entry_path(name)
        try:
            os.utime(path, times)
        except FileNotFoundError:
            _write(path, LedgerEntry(name=name).model_dump_json())
            os.utime(path, times)

    def record(self, entry: LedgerEntry) -> None:
        """Write an image's record and set its last use to now; raises `UserError` if the cache cannot be written."""
        with self._explained():
            _write(self._entry_path(entry.name), entry.model_dump_json())

    def forget(self, name: str) -> None:
        """Delete the record of an image that is gone."""
        self._entry_path(self._full_name(name)).unlink(missing_ok=True)

    def entry(self, name: str) -> LedgerEntry | None:
        """The record of one image, or None."""
        return next((entry for entry, _ in self._read([self._entry_path(self._full_name(name))])), None)

    def entries(self) -> dict[str, tuple[LedgerEntry, float]]:
        """Name to record and time of last use, in seconds since 1970."""
        paths = (self.directory / "entries").glob("[0-9a-f]*.json")
        return {entry.name: (entry, used_s) for entry, used_s in self._read(paths)}

    def _read(self, paths: Iterable[Path]) -> Iterator[tuple[LedgerEntry, float]]:
        for path in paths:
            try:
                yield LedgerEntry.model_validate_json(path.read_bytes()), path.stat().st_mtime
            except FileNotFoundError:  # deleted meanwhile
                continue
            except ValidationError:  # written by another version
                logger.warning("%s cannot be read and is left alone", path)

    # -- holds --------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def hold(self, name: str, ttl_s: float = _HOLD_S) -> AsyncIterator[None]:
        """Keep the image from being removed within this block, or until `ttl_s` seconds are over.

        Raises `UserError` if the cache cannot be written.
        """
        with self._explained():
            path = await asyncio.to_thread(self._hold, self._full_name(name), ttl_s)
        try:
            yield
        finally:
            self._drop(path)

    def held(self) -> dict[str, Lease]:
        """Name to the lease of a process that needs the image. Holds of dead processes are deleted on the way."""
        return {hold.name: hold.lease for hold in read_holds(self.directory / "holds")}

    @asynccontextmanager
    async def removing(self, names: Iterable[str]) -> AsyncIterator[Lease | None]:
        """Keep everybody from reserving an image while it is removed; yields the lease of a process that already has.
        Raises `UserError` if the cache cannot be written."""
        wanted = [self._full_name(name) for name in names]
        locks = ExitStack()
        taking = asyncio.ensure_future(asyncio.to_thread(self._lock_all, wanted, locks))
        with self._explained():
            try:
                await asyncio.shield(taking)
            except asyncio.CancelledError:  # the thread may yet take them
                taking.add_done_callback(lambda _: locks.close())
                raise
        with locks:
            held = self.held()
            yield next((held[name] for name in wanted if name in held), None)

    def _hold(self, name: str, ttl_s: float = _HOLD_S) -> Path:
        path = self.directory / "holds" / f"{_key(name)}.{uuid.uuid4().hex[:12]}.json"
        with ExitStack() as locks:
            self._lock_all([name], locks)
            _write(path, Hold(name=name, lease=Lease.start(ttl_s)).model_dump_json())
        RENEWER.add(path)
        return path

    def _drop(self, path: Path) -> None:
        RENEWER.remove(path)
        with suppress(OSError):
            path.unlink()

    def _lock_all(self, names: Iterable[str], locks: ExitStack) -> None:
        """Lock images, always in the same order; what was locked is unlocked again if one cannot be."""
        holds = self.directory / "holds"
        holds.mkdir(parents=True, exist_ok=True)
        try:
            for key in sorted({_key(name) for name in names}):
                locks.enter_context(lease_lock(holds / f"{key}.lock", LOCK_WAIT_S))
        except OSError:
            locks.close()
            raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self.directory} cannot be written ({error}); set SWE_AEM_CACHE to another place"
            ) from None

    def _entry_path(self, name: str) -> Path:
        return self.directory / "entries" / f"{_key(name)}.json"


def _key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def _write(path: Path, text: str) -> None:
    """Replace a file as a whole. Not synced: losing the last use of an image in a power cut does no harm."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
