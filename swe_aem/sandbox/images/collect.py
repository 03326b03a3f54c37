"""Disk space: while a disk is fuller than its watermark allows, the least recently used images are removed.

An image stays if a container or a live sandbox uses it, if a process holds it, or if this program neither pulled nor
unpacked it. The space that a removal frees is measured on the disk and not added up: images share layers.
"""

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, assert_never

from swe_aem.cache import cache_dir
from swe_aem.core.base import Frozen
from swe_aem.errors import UserError
from swe_aem.sandbox.images.engine import Engine, EngineError
from swe_aem.sandbox.images.ledger import Ledger
from swe_aem.sandbox.images.reference import Reference
from swe_aem.sandbox.images.stock import StoredImage
from swe_aem.sandbox.layers import remove_layer, sweep_layers
from swe_aem.sandbox.packed import PackedDir
from swe_aem.sandbox.roots import live_images, live_layers, rootfs_dir

_DRAFT_LIFE_S = 86400.0


class Disk(NamedTuple):
    """A disk's space in bytes, without the part that is reserved for root."""

    total: int
    free: int

    @property
    def used_share(self) -> float:
        """Share of the disk in use, 0..1."""
        return 1 - self.free / self.total if self.total else 0.0


class Watermark(Frozen):
    """Begin to remove above `high`, stop at `low`: shares of the disk in use, 0..1; and keep `free_bytes` free."""

    high: float = 0.85
    low: float = 0.70
    free_bytes: int = 0

    def exceeded(self, disk: Disk) -> bool:
        """Is there too little space?"""
        return disk.used_share > self.high or disk.free < self.free_bytes

    def reached(self, disk: Disk) -> bool:
        """Is there enough space to stop?"""
        return disk.used_share <= self.low and disk.free >= self.free_bytes


class Removal(Frozen):
    """One image, and whether it was removed."""

    item: StoredImage
    outcome: Literal["removed", "would be removed", "kept"]
    why: str = ""


class CollectionResult(Frozen):
    """The result of a collection on one disk."""

    disk: str
    before: Disk
    after: Disk
    removals: tuple[Removal, ...]
    reached: bool
    """Is the disk below the low watermark now, or was it never above the high one?"""


def measure(path: Path) -> Disk:
    """The disk that a path lies on."""
    stat = os.statvfs(path)
    return Disk(
        total=stat.f_frsize * (stat.f_blocks - stat.f_bfree + stat.f_bavail), free=stat.f_frsize * stat.f_bavail
    )


def parse_share(text: str) -> float:
    """`85%` as 0.85; raises `UserError`."""
    try:
        share = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UserError(f"{text!r} is not a share of a disk; write a percentage, e.g. 85%")
    return share


class Collector:
    """Removes images: those of the engine and of the cache together, if they share a disk."""

    def __init__(
        self, engine: Engine | None, engine_ledger: Ledger, roots_ledger: Ledger, *, dry_run: bool = False
    ) -> None:
        self._engine = engine
        self._engine_ledger = engine_ledger
        self._roots_ledger = roots_ledger
        self._dry_run = dry_run

    async def collect(
        self, path: Path, items: Sequence[StoredImage], mark: Watermark, disk: Callable[[Path], Disk] = measure
    ) -> CollectionResult:
        """Remove items, least recently used first, until the disk that `path` lies on has enough space."""
        before = after = disk(path)
        removals: list[Removal] = []
        if mark.exceeded(before):
            for item in removal_order(items):
                if mark.reached(after):
                    break
                removals.append(await self.remove(item))
                would = item.size_bytes if removals[-1].outcome == "would be removed" else 0
                after = disk(path) if not self._dry_run else after._replace(free=after.free + would)
        reached = mark.reached(after) if mark.exceeded(before) else True
        return CollectionResult(disk=str(path), before=before, after=after, removals=tuple(removals), reached=reached)

    async def remove(self, item: StoredImage) -> Removal:
        """Remove one image, unless it is in use or not ours."""
        if item.in_use or not item.ours:
            return Removal(item=item, outcome="kept", why=item.in_use or "not ours: neither pulled nor unpacked by us")
        if self._dry_run:
            return Removal(item=item, outcome="would be removed")
        names = item.names if item.path is None else (item.path.name,)
        match item.place:
            case "engine":
                ledger, remove = self._engine_ledger, self._remove_image
            case "rootfs":
                ledger, remove = self._roots_ledger, self._remove_root
            case "layer":
                ledger, remove = self._roots_ledger, self._remove_root_layer
            case "packed":
                assert item.path is not None
                ledger, remove = Ledger.beside_packed(item.path.parent), self._remove_packed
            case "start":
                assert item.path is not None
                ledger, remove = Ledger.beside_packed(item.path.parents[1]), self._remove_start
            case "copy":
                ledger, remove = Ledger.of_copies(), self._remove_copy
            case unknown:
                assert_never(unknown)
        async with ledger.removing(names) as lease:
            if lease is not None:
                return Removal(item=item, outcome="kept", why=f"process {lease.owner.pid} on {lease.owner.host}")
            why = await remove(item)
            if why is not None:
                return Removal(item=item, outcome="kept", why=why)
            for name in names:
                ledger.forget(name)
        return Removal(item=item, outcome="removed")

    async def _remove_image(self, item: StoredImage) -> str | None:
        """Take all names from an image; the reason if a container came to use it meanwhile."""
        assert self._engine is not None
        assert item.image_id is not None
        taken: list[str] = []
        image = await self._engine.inspect(item.names[0])
        if image is None or image.id != item.image_id:
            return "its name has gone to another image" if image is not None else None
        for name in image.names:
            try:
                await self._engine.remove(name)
                taken.append(name)
            except EngineError as error:
                if error.status != 409:
                    raise
                for tag in (tag for tag in taken if "@" not in tag):
                    await self._engine.tag(item.image_id, Reference.parse(tag))
                return "a container uses it"
        return None

    async def _remove_root(self, item: StoredImage) -> str | None:
        """Move a root away in one step, then remove it; the reason if a sandbox came to use it meanwhile."""
        path = cache_dir() / "rootfs" / item.names[0]
        if path.name in {rootfs_dir(image).name for image in live_images()}:
            return "a live sandbox"
        gone = path.with_name(f".{path.name}.{os.getpid()}.draft")
        path.rename(gone)
        await asyncio.to_thread(shutil.rmtree, gone)
        return None

    async def _remove_root_layer(self, item: StoredImage) -> str | None:
        """Remove a layer on a root; the reason if a sandbox came to use it meanwhile."""
        root, _, key = item.names[0].rpartition("@")
        if (root, key) in live_layers():
            return "a live sandbox"
        await asyncio.to_thread(remove_layer, root, key)
        return None

    async def _remove_packed(self, item: StoredImage) -> str | None:
        """Remove a packed image with its names."""
        assert item.path is not None
        await asyncio.to_thread(PackedDir(item.path.parent).remove_image, item.path)
        return None

    async def _remove_start(self, item: StoredImage) -> str | None:
        """Remove a packed start with its digest."""
        assert item.path is not None
        PackedDir(item.path.parents[1]).forget_start(item.path.stem)
        return None

    async def _remove_copy(self, item: StoredImage) -> str | None:
        """Remove a copy; the next sandbox makes it again."""
        assert item.path is not None
        await asyncio.to_thread(item.path.unlink, missing_ok=True)
        return None


def removal_order(items: Sequence[StoredImage]) -> list[StoredImage]:
    """Least recently used first; the layers on an image come right before it, for without it they are of no use."""
    ordered: dict[tuple[str, ...], StoredImage] = {}
    for item in sorted(items, key=lambda item: item.used_s or 0.0):
        below = {"engine": item.image_id, "rootfs": item.names[0], "packed": item.path and item.path.stem}.get(
            item.place
        )
        above = "engine" if item.place == "engine" else "layer"
        on_it = [other for other in items if below and other.layer_of == below and other.place == above]
        for one in (*on_it, item):
            ordered.setdefault((one.place, *one.names), one)
    return list(ordered.values())


def sweep_drafts() -> list[Path]:
    """Remove roots and layers that were left half made or half removed; returns the paths of the roots.

    Roots only after a day. Layers of roots that are gone and old marks of quick starts go too.
    """
    sweep_layers({path.name for path in (cache_dir() / "rootfs").glob("[!.]*")})
    old = [
        path for path in (cache_dir() / "rootfs").glob(".*.draft") if time.time() - path.stat().st_mtime > _DRAFT_LIFE_S
    ]
    for path in old:
        shutil.rmtree(path)
    return old
