"""Kept layers of the embedded backend: what preparing wrote on top of an unpacked root, one directory each.

    layers/<root>/<key>/upper         a kept layer: the upper directory of an overlay, whiteouts and attributes included
    layers/<root>/.<process>.draft    one that this process is making; without the process it is garbage

A layer appears under its key in one step and is never written to again: sandboxes mount it below their own.
"""

import os
import shutil
import uuid
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from swe_aem.cache import cache_dir
from swe_aem.core.owner import start_ticks
from swe_aem.core.quick_starts import sweep_quick_marks
from swe_aem.sandbox.packed import is_packed_root


def layers_dir() -> Path:
    """Directory of all kept layers."""
    return cache_dir() / "layers"


def layer_dir(root: str, key: str) -> Path:
    """Directory of one layer on an unpacked root, named by the root's directory."""
    return layers_dir() / root / key


def layer_name(root: str, key: str) -> str:
    """The layer's name in the ledger and in lists."""
    return f"{root}@{key}"


def kept_layers() -> list[tuple[str, str]]:
    """Root and key of every kept layer."""
    return sorted((path.parent.name, path.name) for path in layers_dir().glob("[!.]*/[!.]*"))


class LayerDraft:
    """A layer that a sandbox of this process is writing. `upper` and `work` are the directories of its overlay."""

    def __init__(self, root: str, key: str) -> None:
        pid = os.getpid()
        self.directory = layers_dir() / root / f".{pid}-{start_ticks(pid)}-{uuid.uuid4().hex[:12]}.draft"
        self._kept = layer_dir(root, key)

    def make(self) -> None:
        """Create the directories; raises `OSError`."""
        for name in ("upper", "work"):
            (self.directory / name).mkdir(parents=True)

    def keep(self, left_out: Collection[str]) -> None:
        """Put the layer under its key, without the absolute paths of `left_out`; raises `OSError`.

        It is on the disk before it has its name. If another process was faster, its layer stays.
        """
        upper = self.directory / "upper"
        for path in left_out:
            _remove_below(upper, path)
        remove_tree(self.directory / "work")
        for directory, _, files in os.walk(upper):
            for name in files:
                _flush(os.path.join(directory, name))
        try:
            self.directory.rename(self._kept)
        except OSError:
            if not self._kept.exists():
                raise

    def discard(self) -> None:
        """Remove what is left of the draft."""
        _remove(self.directory)


def sweep_drafts() -> list[Path]:
    """Remove the drafts of processes that have ended, and what interrupted removals left; returns the paths."""
    gone = [path for path in layers_dir().glob("*/.*.draft") if not _owner_lives(path)]
    for path in [*gone, *layers_dir().glob("*/.*.gone")]:
        _remove(path)
    return gone


def _owner_lives(draft: Path) -> bool:
    pid, ticks, _ = draft.name.removeprefix(".").split("-")
    return str(start_ticks(int(pid))) == ticks


def remove_layer(root: str, key: str) -> None:
    """Remove a layer; one that is not there is no error."""
    _remove(layer_dir(root, key))


def _remove(path: Path) -> None:
    """Remove a directory: first its name, in one step, so that nobody can give a half removed one another name."""
    gone = path.with_name(f".{uuid.uuid4().hex[:12]}.gone")
    with suppress(FileNotFoundError):
        path.rename(gone)
        remove_tree(gone)


def remove_layers_of(root: str) -> None:
    """Remove all layers of a root that is gone or has become another image's."""
    for found, key in kept_layers():
        if found == root:
            remove_layer(root, key)


def remove_tree(path: Path) -> None:
    """Remove a directory tree of an overlay; one that is not there is no error.

    Overlays leave directories without permissions, which their owner must open first unless it is root.
    """
    if os.geteuid() != 0:
        for directory, names, _ in os.walk(path):
            for name in names:
                inner = os.path.join(directory, name)
                if not os.path.islink(inner):
                    os.chmod(inner, 0o700)
    with suppress(FileNotFoundError):
        shutil.rmtree(path)


def sweep_layers(roots: Collection[str]) -> None:
    """Remove drafts without a process, layers of unpacked roots that are not among `roots`, and old marks of quick
    starts. A packed root may be on a disk that is not there now; its layers go with the least recently used."""
    sweep_drafts()
    for root, key in kept_layers():
        if root not in roots and not is_packed_root(root):
            remove_layer(root, key)
    sweep_quick_marks()


def _remove_below(upper: Path, path: str) -> None:
    """Remove a directory by its path inside the sandbox; links, which the image may have made, are not followed."""
    parts = path.strip("/").split("/")
    above = [upper.joinpath(*parts[:count]) for count in range(1, len(parts) + 1)]
    if all(directory.is_dir() and not directory.is_symlink() for directory in above):
        remove_tree(above[-1])


def _flush(path: str) -> None:
    """Write a regular file's content to the disk; whiteouts, links and pipes have none."""
    if os.path.isfile(path) and not os.path.islink(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
