"""Unpacking: an engine's image becomes a root file system in the cache, where the bubblewrap backend looks for it.

The engine merges the layers, so its export has no whiteouts and the right owners and capabilities; `tar` keeps
them. A root appears under its name in one step or not at all.
"""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from swe_aem.core.base import Frozen
from swe_aem.errors import UserError
from swe_aem.sandbox.images.engine import Engine, EngineImage
from swe_aem.sandbox.images.ledger import Ledger, LedgerEntry
from swe_aem.sandbox.images.recipes import how_to_get
from swe_aem.sandbox.images.stock import tree_bytes
from swe_aem.sandbox.images.stream import feed, tar_command
from swe_aem.sandbox.layers import remove_layers_of
from swe_aem.sandbox.packed import tool
from swe_aem.sandbox.roots import ROOTFS_DIGEST, ROOTFS_ENV, live_images, rootfs_dir


class Unpacked(Frozen):
    """A root file system and what it was made of."""

    image: str
    path: Path
    image_id: str
    size_bytes: int
    fresh: bool
    """Was it made now? False if it was there already, made of the same image."""


async def unpack(engine: Engine, ledger: Ledger, image: str) -> Unpacked:
    """Make an image of the engine the root for bubblewrap sandboxes of that name.

    Raises `UserError` if the engine has no such image, if the root of another image is in use or was not unpacked
    by this program, or if the host lacks something; `InfrastructureError` if tar or the engine fails.
    """
    found = await engine.inspect(image)
    if found is None:
        raise UserError(
            f"the {engine.kind.name} engine has no image {image!r}: get it with {how_to_get(image, engine.kind.name)}"
        )
    path = rootfs_dir(image)
    fresh = not _made_of(path, found.id)
    if fresh:
        _refuse_if_not_ours(ledger, image, path)
        await _make(engine, ledger, image, found, path)
    ledger.use(path.name)
    size_bytes = await asyncio.to_thread(tree_bytes, path)
    return Unpacked(image=image, path=path, image_id=found.id, size_bytes=size_bytes, fresh=fresh)


def _made_of(path: Path, image_id: str) -> bool:
    made_of = path / ROOTFS_DIGEST
    return (path / ROOTFS_ENV).exists() and made_of.exists() and made_of.read_text().strip() == image_id


def _refuse_if_not_ours(ledger: Ledger, image: str, path: Path) -> None:
    entry = ledger.entry(path.name)
    if path.exists() and (entry is None or entry.origin is None):
        raise UserError(f"{path} holds another root, which this program did not unpack; remove it to unpack {image}")


async def _make(engine: Engine, ledger: Ledger, image: str, found: EngineImage, path: Path) -> None:
    draft, old = (path.with_name(f".{path.name}.{os.getpid()}.{what}draft") for what in ("", "old."))
    try:
        draft.mkdir(parents=True)
        async with engine.export(found.id) as archive:
            await _extract(archive, draft)
        _note(draft / ROOTFS_DIGEST, f"{found.id}\n")
        _note(draft / ROOTFS_ENV, json.dumps(found.env))
        if not (draft / "bin").exists():
            raise UserError(f"image {image} has no /bin: no command could be run in it")
        size_bytes = await asyncio.to_thread(tree_bytes, draft)
        async with ledger.removing([path.name]) as holder:
            if path.exists():
                if holder is not None or path.name in {rootfs_dir(live).name for live in live_images()}:
                    raise UserError(f"{path} holds another image's root and is in use; try again when it is not")
                path.rename(old)
                await asyncio.to_thread(remove_layers_of, path.name)
            draft.rename(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error}); free some space, or set SWE_AEM_CACHE") from None
    finally:
        for leftover in (draft, old):
            await asyncio.to_thread(shutil.rmtree, leftover, ignore_errors=True)
    ledger.record(LedgerEntry(name=path.name, origin="unpack", image_id=found.id, size_bytes=size_bytes))


def _note(path: Path, text: str) -> None:
    """Write our own file into a root. The image may have anything of that name, for example a link out of it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    with path.open("x") as file:
        file.write(text)


async def _extract(archive: AsyncIterator[bytes], into: Path) -> None:
    """Write a tar stream below a directory; owners are kept where the host permits it."""
    tar = tool("tar", "unpacking")
    command = tar_command(tar, str(into), as_root=os.geteuid() == 0)
    await feed(command, archive, "tar could not unpack the image")
