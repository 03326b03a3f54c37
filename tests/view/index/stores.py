"""Stores of tests, written at once: what a writer makes durable line by line need not be durable here."""

import json
from collections.abc import Iterable
from pathlib import Path

from swe_aem.core import Trajectory
from swe_aem.store.segments import seal, segment_path
from swe_aem.store.trajectory_row import to_row


def line(trajectory: Trajectory) -> bytes:
    """A trajectory's line in a store."""
    return seal(json.dumps(to_row(trajectory), allow_nan=False).encode("ascii"))


def write_store(directory: Path, several: Iterable[Trajectory], *, per_segment: int = 4) -> Path:
    """A store of these trajectories."""
    folder = directory / "trajectories"
    folder.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(several):
        with segment_path(folder, number // per_segment).open("ab") as file:
            file.write(line(one))
    return directory
