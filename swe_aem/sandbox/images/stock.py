"""The images on the engine, unpacked in the cache and packed: size, last use, and what uses each of them."""

import asyncio
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

from swe_aem.cache import cache_dir
from swe_aem.core.base import Frozen
from swe_aem.core.owner import Lease
from swe_aem.sandbox.images.engine import Engine, EngineImage
from swe_aem.sandbox.images.ledger import Ledger, LedgerEntry
from swe_aem.sandbox.images.reference import canonical
from swe_aem.sandbox.layers import kept_layers, layer_dir, layer_name
from swe_aem.sandbox.packed import PackedDir, PackedImage
from swe_aem.sandbox.packed_copies import copies_dir
from swe_aem.sandbox.packed_mounts import ledger_of_mounts
from swe_aem.sandbox.roots import live_images, live_layers, rootfs_dir

Place = Literal["engine", "rootfs", "layer", "packed", "start", "copy"]
"""On the engine; an unpacked root in the cache; a kept layer on such a root; a packed image; a packed start of a task;
a copy of one of these two on this host's own disk."""


class Ours(Protocol):
    """Decides whether an image of that name may ever be removed."""

    def __call__(self, name: str, entry: LedgerEntry | None) -> bool:
        """`name` is a full reference, or the name of an unpacked root's directory."""
        ...


class StoredImage(Frozen):
    """One image, on the engine or unpacked in the cache."""

    place: Place
    names: tuple[str, ...]
    """References as the engine shows them, the directory of an unpacked root, or `ROOT@KEY` for a layer on one."""
    image_id: str | None
    digest: str | None
    """Digest of the registry's manifest; None if it is unknown."""
    size_bytes: int
    """Size in bytes. On the engine this includes layers shared with other images: removing it may free less."""
    used_s: float | None
    """Last use by this program, in seconds since 1970; None if it never was."""
    in_use: str | None
    """The container, sandbox or process that needs it now; None if nothing does."""
    ours: bool
    """May it be removed once nothing needs it?"""
    layer_of: str | None = None
    """What it is a kept layer on: the id of an image, or the directory of an unpacked root; None if it is none."""
    path: Path | None = None
    """The file of what is packed, or of a copy."""


async def engine_stock(engine: Engine, ledger: Ledger, ours: Ours) -> list[StoredImage]:
    """Every named image of an engine."""
    images, users = await engine.images(), await engine.users()
    on_layers = {image.layer_of: users[image.id] for image in images if image.layer_of and image.id in users}
    users = {**on_layers, **users}
    entries, held = ledger.entries(), ledger.held()
    return [_engine_item(image, entries, held, users, ours) for image in images]


async def roots_stock(ledger: Ledger, ours: Ours) -> list[StoredImage]:
    """Every unpacked root file system in the cache, and every layer on one."""
    return [*await asyncio.to_thread(_roots, ledger, ours), *await asyncio.to_thread(_root_layers, ledger)]


async def packed_stock(packed: PackedDir | None) -> list[StoredImage]:
    """Every file in a directory of packed images, if there is one, and every copy of such files on this host."""
    found = [] if packed is None else await asyncio.to_thread(_packed, packed)
    return [*found, *await asyncio.to_thread(_copies)]


def _packed(packed: PackedDir) -> list[StoredImage]:
    named: dict[Path, list[PackedImage]] = {}
    for image in packed.images():
        named.setdefault(packed.file(image), []).append(image)
    ledger = Ledger.beside_packed(packed.path)
    entries, held = ledger.entries(), {**ledger.held(), **ledger_of_mounts().held()}
    return [_packed_item(path, named.get(path, ()), entries, held) for path in packed.files()]


def _packed_item(
    path: Path,
    images: Sequence[PackedImage],
    entries: Mapping[str, tuple[LedgerEntry, float]],
    held: Mapping[str, Lease],
) -> StoredImage:
    is_start = path.parent.name == "starts"
    return StoredImage(
        place="start" if is_start else "packed",
        names=tuple(image.reference for image in images) or (path.name,),
        image_id=None if is_start else path.stem.replace("-", ":", 1),
        digest=next((image.digest for image in images), None),
        size_bytes=path.stat().st_size,
        used_s=entries.get(path.name, (None, None))[1],
        in_use=_holder([path.name], held),
        ours=is_start or all(image.digest is not None for image in images),  # else no registry has it
        path=path,
    )


def _copies() -> list[StoredImage]:
    ledger = Ledger.of_copies()
    entries, held = ledger.entries(), {**ledger.held(), **ledger_of_mounts().held()}
    paths = sorted(copies_dir().glob("[!.]*"))
    items = [_packed_item(path, (), entries, held) for path in paths]
    return [item.model_copy(update={"place": "copy", "ours": True}) for item in items]


def obtained_by_us(tasks_images: Collection[str] = (), *, everything: bool = False) -> Ours:
    """A rule for what may be removed: what this program pulled or unpacked, a task set's images, or everything."""
    wanted = {canonical(image) for image in tasks_images} | {rootfs_dir(image).name for image in tasks_images}

    def ours(name: str, entry: LedgerEntry | None) -> bool:
        return everything or (entry is not None and entry.origin is not None) or name in wanted

    return ours


def _engine_item(
    image: EngineImage,
    entries: Mapping[str, tuple[LedgerEntry, float]],
    held: Mapping[str, Lease],
    users: Mapping[str, str],
    ours: Ours,
) -> StoredImage:
    names = [canonical(name) for name in image.tags] or [canonical(name) for name in image.digests]
    everything = {*names, *map(canonical, image.digests), image.id}
    known = [entries[name] for name in everything if name in entries]
    # an entry describes the image that it was written for: its tag may have moved to another one since
    mine = {name: entry for name in names if (entry := entries.get(name, (None,))[0]) and _fits(entry, image)}
    digests = [digest.rpartition("@")[2] for digest in image.digests]
    told = [entry.digest for entry in mine.values() if entry.digest]
    return StoredImage(
        place="engine",
        names=image.tags or image.digests,
        image_id=image.id,
        digest=next(iter([*told, *digests]), None),
        size_bytes=image.size_bytes,
        used_s=max((used_s for _, used_s in known), default=None),
        in_use=f"container {users[image.id]}" if image.id in users else _holder(everything, held),
        ours=all(ours(name, mine.get(name)) for name in names),
        layer_of=image.layer_of,
    )


def _fits(entry: LedgerEntry, image: EngineImage) -> bool:
    return entry.image_id is None or entry.image_id == image.id


def _holder(names: Iterable[str], held: Mapping[str, Lease]) -> str | None:
    owner = next((held[name].owner for name in names if name in held), None)
    return None if owner is None else f"process {owner.pid} on {owner.host}"


def _roots(ledger: Ledger, ours: Ours) -> list[StoredImage]:
    folder = cache_dir() / "rootfs"
    if not folder.is_dir():
        return []
    entries, held = ledger.entries(), ledger.held()
    live = {rootfs_dir(image).name for image in live_images()}
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_dir():
            continue
        entry, used_s = entries.get(path.name, (None, None))
        size_bytes = entry.size_bytes if entry is not None and entry.size_bytes is not None else tree_bytes(path)
        found.append(
            StoredImage(
                place="rootfs",
                names=(path.name,),
                image_id=entry.image_id if entry is not None else None,
                digest=None,
                size_bytes=size_bytes,
                used_s=used_s,
                in_use="a live sandbox" if path.name in live else _holder([path.name], held),
                ours=ours(path.name, entry),
            )
        )
    return found


def _root_layers(ledger: Ledger) -> list[StoredImage]:
    entries, held, live = ledger.entries(), ledger.held(), live_layers()
    found = []
    for root, key in kept_layers():
        name = layer_name(root, key)
        entry, used_s = entries.get(name, (None, None))
        found.append(
            StoredImage(
                place="layer",
                names=(name,),
                image_id=entry.image_id if entry is not None else None,
                digest=None,
                size_bytes=tree_bytes(layer_dir(root, key)),
                used_s=used_s,
                in_use="a live sandbox" if (root, key) in live else _holder([name], held),
                ours=True,
                layer_of=root,
            )
        )
    return found


def tree_bytes(path: Path) -> int:
    """Disk space of a directory tree; a file with several names counts once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for directory, _, files in os.walk(path):
        for name in files:
            stat = os.lstat(os.path.join(directory, name))
            if (stat.st_dev, stat.st_ino) not in seen:
                seen.add((stat.st_dev, stat.st_ino))
                total += stat.st_blocks * 512
    return total
