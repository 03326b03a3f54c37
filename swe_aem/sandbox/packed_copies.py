"""Copies of packed images on this host's own disk, so that shared storage is read once.

`$SWE_AEM_IMAGES_COPY` is their limit, e.g. `200GiB`; without it there are none. When the next one would exceed it,
those that were used longest ago go, but none that a live process needs. What does not fit is used where it is.
"""

import asyncio
import logging
import os
import shutil
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Self

from swe_aem.cache import cache_dir
from swe_aem.errors import UserError
from swe_aem.sandbox.images.ledger import Ledger
from swe_aem.sandbox.images.sizes import parse_bytes, size

logger = logging.getLogger(__name__)

COPY_LIMIT = "SWE_AEM_IMAGES_COPY"
"""Environment variable with the space that copies may take."""
_DRAFT_LIFE_S = 86400.0


def copies_dir() -> Path:
    """Where copies lie."""
    return cache_dir() / "packed"


class PackedCopies:
    """The copies in the cache, in `packed/`."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._directory = copies_dir()
        self._ledger = Ledger.of_copies()
        self._needed: set[str] = set()
        self._under_way_bytes = 0
        """Size of the copies that are being made."""

    @classmethod
    def configured(cls) -> Self | None:
        """What the environment says; None if there are to be no copies. Raises `UserError` if that is no size."""
        text = os.environ.get(COPY_LIMIT)
        if not text:
            return None
        try:
            return cls(parse_bytes(text))
        except UserError as error:
            raise UserError(f"{COPY_LIMIT}: {error}") from None

    async def local(self, file: Path) -> Path:
        """The copy of a file, made now if there is none; the file itself if there is no space."""
        copy = self._directory / file.name
        await self._ledger.reserve(file.name)
        self._needed.add(file.name)
        try:
            async with self._ledger.removing([file.name]):  # one process copies
                if not _is_copy(copy, file):
                    await self._copy(file, copy)
        except (OSError, UserError) as error:
            logger.warning("%s is used where it is: no copy could be made (%s)", file, error)
            return file
        self._ledger.use(file.name)
        return copy if copy.exists() else file

    def release(self) -> None:
        """Give up every copy that was asked for."""
        for name in tuple(self._needed):
            self._ledger.release(name)
            self._needed.discard(name)

    async def _copy(self, file: Path, copy: Path) -> None:
        size_bytes = file.stat().st_size
        self._under_way_bytes += size_bytes
        try:
            await self._copy_into_space(file, copy, size_bytes)
        finally:
            self._under_way_bytes -= size_bytes

    async def _copy_into_space(self, file: Path, copy: Path, size_bytes: int) -> None:
        if not await self._make_space(self._under_way_bytes):
            logger.warning(
                "%s (%s) is used where it is: it does not fit into %s=%s beside what live processes need",
                *(file, size(size_bytes), COPY_LIMIT, size(self._limit_bytes)),
            )
            return
        copy.parent.mkdir(parents=True, exist_ok=True)
        draft = copy.with_name(f".{copy.name}.{uuid.uuid4().hex[:12]}.draft")
        try:
            await asyncio.to_thread(_copied, file, draft)
            draft.rename(copy)
        finally:
            draft.unlink(missing_ok=True)

    async def _make_space(self, wanted_bytes: int) -> bool:
        """Remove copies until there is space, and what interrupted ones left; False if there cannot be."""
        for draft in self._directory.glob(".*.draft"):
            with suppress(FileNotFoundError):
                if time.time() - draft.stat().st_mtime > _DRAFT_LIFE_S:
                    draft.unlink()
        used = self._ledger.entries()
        copies = []
        for path in self._directory.glob("[!.]*"):
            with suppress(FileNotFoundError):
                copies.append((used[path.name][1] if path.name in used else 0.0, path.stat().st_size, path))
        total = sum(size_bytes for _, size_bytes, _ in copies)
        for _, size_bytes, path in sorted(copies):
            if total + wanted_bytes <= self._limit_bytes:
                break
            async with self._ledger.removing([path.name]) as holder:
                if holder is None:
                    path.unlink(missing_ok=True)
                    self._ledger.forget(path.name)
                    total -= size_bytes
        return total + wanted_bytes <= self._limit_bytes


def _is_copy(copy: Path, file: Path) -> bool:
    """Is it whole? A power cut may have left less."""
    return copy.exists() and copy.stat().st_size == file.stat().st_size


def _copied(file: Path, draft: Path) -> None:
    shutil.copyfile(file, draft)
    with draft.open("rb") as written:
        os.fsync(written.fileno())
