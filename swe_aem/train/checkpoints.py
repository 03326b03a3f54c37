"""Checkpoints of TRL's trainer that are known to be complete: each gets a marker file when all of it is written.
Importable without torch."""

import shutil
from pathlib import Path

DIRECTORY = "checkpoints"
"""Where a run has its checkpoints, below its directory."""
UNFINISHED = "unfinished"
"""Where one is written, below that."""
MARK = "complete"


def latest(directory: Path) -> Path | None:
    """The last complete checkpoint, None if there is none."""
    return max(whole(directory), key=update_of, default=None)


def whole(directory: Path) -> list[Path]:
    """All complete checkpoints."""
    return [path.parent for path in directory.glob(f"checkpoint-*/{MARK}")]


def complete(written: Path, directory: Path) -> None:
    """Mark a checkpoint of which all is written, and make it one of those in `directory`, in one step."""
    (written / MARK).touch()
    written.rename(directory / written.name)


def remove_old(directory: Path, *, keep: int) -> None:
    """Remove all complete checkpoints but the last `keep`. One that is removed in part is not complete."""
    for path in sorted(whole(directory), key=update_of)[:-keep]:
        (path / MARK).unlink()
        shutil.rmtree(path)


def remove_torn(directory: Path) -> list[Path]:
    """Remove checkpoints that a killed process did not finish; returns them."""
    torn = [path for path in directory.glob("checkpoint-*") if not (path / MARK).exists()]
    torn += (directory / UNFINISHED).glob("checkpoint-*")
    for path in torn:
        shutil.rmtree(path)
    return torn


def update_of(path: Path) -> int:
    """Optimiser updates behind a checkpoint, from its name."""
    return int(path.name.rpartition("-")[2])
