"""Root file systems of images, unpacked or packed, and the record of which live sandbox uses which of them.

Used by the embedded backend, which starts sandboxes on these roots, and by `images`, which unpacks and removes them.
"""

import json
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from swe_aem.cache import cache_dir
from swe_aem.core.base import Frozen
from swe_aem.core.owner import Lease
from swe_aem.errors import TaskUnusable, UserError
from swe_aem.sandbox.packed import PackedDir, PackedImage, by_name

logger = logging.getLogger(__name__)

ROOTFS_DIGEST = ".swe-aem-digest"
"""File at the top of an unpacked root file system: the digest of the image that it was unpacked from."""

ROOTFS_ENV = ".swe-aem-env"
"""File beside it: the image's environment (`ENV`), a JSON list of `NAME=value`."""


def rootfs_dir(image: str) -> Path:
    """Directory of an image's unpacked root file system."""
    return cache_dir() / "rootfs" / image.replace("/", "_").replace(":", "_")


def rootfs_environment(root: Path, image: str) -> dict[str, str]:
    """The environment of the image that a root was unpacked from; empty for a root that was not unpacked by us.

    Raises `TaskUnusable` for a root that an earlier version unpacked without it.
    """
    try:
        entries: list[str] = json.loads((root / ROOTFS_ENV).read_text())
    except FileNotFoundError:
        if (root / ROOTFS_DIGEST).exists():
            raise TaskUnusable(
                f"{root} was unpacked without the image's environment: run `swe-aem images unpack {image}` again"
            ) from None
        return {}
    return by_name(entries)


@dataclass(frozen=True)
class Root:
    """What stands for an image: a directory with its root file system, or a packed file that has to be mounted."""

    name: str
    """The name of the directory in the cache, or of the packed image: layers are kept under it."""
    path: Path
    image_id: str | None
    """Digest of the image that it was made of; None if nobody knows it."""
    environment: dict[str, str]
    packed: PackedImage | None = None
    """The image whose file `path` is; None for a directory."""


def unpacked_root(image: str, path: Path) -> Root | None:
    """The root in a directory; None if there is none. Raises `TaskUnusable` for one that lacks the environment."""
    if not (path / "bin").exists():
        return None
    made_of = path / ROOTFS_DIGEST
    image_id = made_of.read_text().strip() if made_of.exists() else None
    return Root(path.name, path.resolve(), image_id, rootfs_environment(path, image))


def packed_root(image: str, directory: PackedDir) -> Root | None:
    """The root that a reference stands for in a directory of packed images; None if it is not there."""
    found = directory.find(image)
    if found is None:
        return None
    return Root(found.stem, directory.file(found), found.image_id, found.environment, found)


class LiveSandbox(Frozen):
    """The state directory's record of a live sandbox."""

    id: str
    image: str
    layer: str | None = None
    """Key of the kept layer that it started on."""
    root: str | None = None
    """Name of the root that it started on; None in records of earlier versions, and on the host's own system."""
    pid: int | None
    """Leader of its process group; None while it is being started."""
    start_ticks: int | None
    """Start time of that process, in clock ticks since boot: a later process may get the same pid."""
    lease: Lease
    labels: dict[str, str]

    def save(self) -> None:
        """Write the record where `ls` and `prune` look, in one step."""
        path = state_dir() / self.id / "entry.json"
        draft = path.with_suffix(".draft")
        draft.write_text(self.model_dump_json())
        draft.rename(path)


def state_dir() -> Path:
    """Directory with one folder for each live sandbox of this user, removed with it. Created if missing."""
    runtime = "/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR")
    path = Path(runtime) / "swe-aem" if runtime else Path(tempfile.gettempdir()) / f"swe-aem-{os.geteuid()}"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_uid != os.geteuid():
        raise UserError(f"{path} belongs to another user; remove it, or set XDG_RUNTIME_DIR")
    return path


def live_images() -> set[str]:
    """Images that are the root of a live sandbox on this host."""
    return {entry.image for entry in live_sandboxes()}


def live_layers() -> set[tuple[str, str | None]]:
    """Name of the root, and layer, of every live sandbox that started on a layer."""
    on_layers = [entry for entry in live_sandboxes() if entry.layer is not None]
    return {(entry.root or rootfs_dir(entry.image).name, entry.layer) for entry in on_layers}


def live_sandboxes() -> list[LiveSandbox]:
    """Records of this host's embedded sandboxes that are starting or live."""
    found = []
    for path in sorted(state_dir().glob("*/entry.json")):
        try:
            found.append(LiveSandbox.model_validate_json(path.read_text()))
        except FileNotFoundError:  # the sandbox ended meanwhile
            continue
        except ValidationError:  # written by another version, which will remove it
            logger.warning("%s cannot be read and is left alone", path)
    return found
