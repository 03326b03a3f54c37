"""Packed images: one read-only file per image in a directory that many hosts may share.

    sha256-<image id>.squashfs    the root file system; `.erofs` in the other format
    names/<reference>.json        which file a reference stands for, and the image's environment
    starts/<key>.squashfs         a prepared start of a task: a layer that lies on its image
    starts/<key>.sha256           its digest
    .layers/, .drafts/            what `swe-aem images pack` is working on
    .uses/                        who needs which file, and when each was last used

Files and names appear in one step and are never written to again.
"""

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from pydantic import ValidationError

from swe_aem.core.base import Frozen
from swe_aem.errors import TaskUnusable, UserError
from swe_aem.sandbox.image_storage import why_not_whole
from swe_aem.sandbox.images.reference import canonical

PACKED_DIR = "SWE_AEM_IMAGES"
"""Environment variable with the directory of packed images."""

PackFormat = Literal["squashfs", "erofs"]
"""File system of a packed image. squashfs is smaller; erofs reads faster."""


class PackedImage(Frozen):
    """What a reference stands for in a directory of packed images."""

    reference: str
    """In its full form."""
    image_id: str
    """Digest of the image's configuration, which an engine calls the image's id."""
    digest: str | None
    """Digest of the registry's manifest; None for an image of an engine."""
    format: PackFormat
    size_bytes: int
    env: tuple[str, ...]
    """The image's environment (`ENV`) as `NAME=value`."""

    @property
    def stem(self) -> str:
        """Name of the file without its ending; also the name of the root on which layers are kept."""
        return self.image_id.replace(":", "-")

    @property
    def file_name(self) -> str:
        """Name of the file in its directory."""
        return f"{self.stem}.{self.format}"

    @property
    def environment(self) -> dict[str, str]:
        """`env` by name."""
        return by_name(self.env)


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def by_name(entries: Iterable[str]) -> dict[str, str]:
    """An environment, given as `NAME=value`, by name."""
    named = [entry.partition("=") for entry in entries]
    return {name: value for name, _, value in named}


def is_packed_root(name: str) -> bool:
    """Is it the name of a packed image's root? Those of unpacked ones are names of images."""
    return name.startswith("sha256-")


class PackedDir:
    """A directory of packed images."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, name: str) -> PackedImage | None:
        """What a reference stands for; None if it was not packed, or its file is gone.

        Raises `TaskUnusable` if the record cannot be read.
        """
        record = self._record(name)
        try:
            found = PackedImage.model_validate_json(record.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise TaskUnusable(f"{record} cannot be read ({error}); pack the image again") from None
        return found if self.file(found).is_file() else None

    def file(self, image: PackedImage) -> Path:
        """The image's file."""
        return self.path / image.file_name

    def start(self, key: str) -> Path:
        """The file of a prepared start, by the key of its layer; it need not be there."""
        return self.path / "starts" / f"{key}.squashfs"

    def has_start(self, key: str) -> bool:
        """Is that file there, and as long as it was written? What is in it, `start_is_sound` compares."""
        try:
            return why_not_whole(self.start(key)) is None
        except OSError:
            return False

    def start_is_sound(self, key: str) -> bool:
        """Is that file there with the content that `keep_start` put there? Reads all of it."""
        try:
            return _digest(self.start(key)) == self._start_digest(key).read_text().strip()
        except OSError:
            return False

    def keep_start(self, key: str, draft: Path) -> None:
        """Move a file that was written beside it to its place; raises `OSError`."""
        file = self.start(key)
        file.parent.mkdir(exist_ok=True)
        self._start_digest(key).write_text(f"{_digest(draft)}\n")
        os.replace(draft, file)

    def forget_start(self, key: str) -> None:
        """Remove a damaged one. One that is not there is no error."""
        self.start(key).unlink(missing_ok=True)
        self._start_digest(key).unlink(missing_ok=True)

    def name(self, image: PackedImage) -> None:
        """Let the image's reference stand for its file; raises `OSError`."""
        record = self._record(image.reference)
        record.parent.mkdir(parents=True, exist_ok=True)
        draft = record.with_name(f".{uuid.uuid4().hex}.draft")
        draft.write_text(image.model_dump_json(indent=1), encoding="utf-8")
        os.replace(draft, record)

    def forget(self, name: str) -> None:
        """Take a reference's name away; the file stays. One that is not there is no error."""
        self._record(name).unlink(missing_ok=True)

    def images(self) -> list[PackedImage]:
        """Every named image whose file is there, by reference. Records that cannot be read count for nothing."""
        found = []
        for record in sorted((self.path / "names").glob("[!.]*.json")):
            with suppress(OSError, ValidationError):
                found.append(PackedImage.model_validate_json(record.read_bytes()))
        return [image for image in found if self.file(image).is_file()]

    def remove_image(self, file: Path) -> None:
        """Remove an image's file with the names that stand for it, which go first."""
        for record in (self.path / "names").glob("[!.]*.json"):
            with suppress(OSError, ValidationError):
                if self.file(PackedImage.model_validate_json(record.read_bytes())) == file:
                    record.unlink()
        file.unlink(missing_ok=True)

    def files(self) -> list[Path]:
        """The files of images, named or not, and those of starts, sorted."""
        images = [path for format in ("squashfs", "erofs") for path in self.path.glob(f"sha256-*.{format}")]
        return sorted([*images, *(self.path / "starts").glob("[!.]*.squashfs")])

    def _start_digest(self, key: str) -> Path:
        return self.path / "starts" / f"{key}.sha256"

    def _record(self, name: str) -> Path:
        return self.path / "names" / f"{quote(canonical(name), safe='')}.json"


def configured_dir() -> PackedDir | None:
    """The directory that `$SWE_AEM_IMAGES` names; None if it is not set. Raises `UserError` if there is none."""
    named = os.environ.get(PACKED_DIR)
    if not named:
        return None
    path = Path(named).expanduser()
    if not path.is_dir():
        raise UserError(f"{PACKED_DIR}={named}: no such directory; make it with `swe-aem images pack REF --to {named}`")
    return PackedDir(path)


_PACKAGES = {
    "sqfstar": "squashfs-tools",
    "mksquashfs": "squashfs-tools",
    "mkfs.erofs": "erofs-utils",
    "squashfuse": "squashfuse",
    "fusermount3": "fuse3",
    "mount": "mount",
    "tar": "tar",
}


def tool(program: str, purpose: str) -> str:
    """Path of a program that packs or mounts images; raises `UserError` that names its Debian package."""
    found = shutil.which(program)
    if found is None:
        raise UserError(f"{purpose} needs {program}: apt-get install {_PACKAGES[program]}")
    return found
