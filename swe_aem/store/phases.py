"""`phases.jsonl`: when each phase of each attempt began and how long it took, one JSON object per phase that has ended.

A store has those of its trajectories; the directory of a training run has those of the process that trains.
`read_phases(DIR)` reads it, also while the run writes it.
"""

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import ConfigDict

from swe_aem.core.base import Frozen
from swe_aem.runlog import AppendedFile, note
from swe_aem.store.records import read_records

FILE = "phases.jsonl"
LIMIT_BYTES = 1 << 30
"""Largest size of the file. A trajectory takes some two kilobytes, so half a million of them fit."""


class EndedPhase(Frozen):
    """A phase of an attempt, or of the trainer, that has ended."""

    model_config = ConfigDict(extra="ignore")  # a later version may write more

    began_s: float
    """When it began: seconds since 1970, UTC."""
    seconds: float
    """How long it took."""
    phase: str
    """What was done: as in a trajectory's `timings_s`, or for the trainer as in a step's metrics, where `step` is a
    whole step."""
    task_id: str | None = None
    sample: int | None = None
    attempt: int | None = None
    """From 1 in each process, as in `failures.jsonl`."""
    step: int | None = None
    """For the trainer's phases: the step whose seconds it is part of. 0 is before training."""

    @property
    def ended_s(self) -> float:
        """When it ended: seconds since 1970, UTC."""
        return self.began_s + self.seconds


class PhaseLog:
    """Appends to a directory's `phases.jsonl`. A full disk ends nothing: the run ends where its store cannot grow."""

    def __init__(self, directory: Path) -> None:
        """The file is opened with the first phase, in a directory that is there by then."""
        self._path = directory / FILE
        self._file: AppendedFile | None = None
        self._since_1970_s = time.time() - time.monotonic()
        self._full = False

    def append(self, phase: str, began_s: float, seconds: float, **of: str | int) -> None:
        """Write that a phase has ended, which began at `began_s` on the monotonic clock. `of` are the fields of
        `EndedPhase` that say whose it was."""
        if self._full:
            return
        record = {"began_s": round(self._since_1970_s + began_s, 6), "seconds": round(seconds, 6), "phase": phase, **of}
        try:
            if self._file is None:
                self._file = AppendedFile(self._path)
        except OSError as error:
            self._give_up(f"cannot be written: {error.strerror}")
            return
        if self._file.size_bytes >= LIMIT_BYTES:
            self._give_up(f"has {LIMIT_BYTES:,} bytes, and gets no more phases")
            return
        self._file.append(json.dumps(record).encode("ascii") + b"\n")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _give_up(self, why: str) -> None:
        self._full = True
        note(f"{self._path} {why}", level=logging.WARNING)


def read_phases(directory: Path) -> Iterator[EndedPhase]:
    """The phases in the order of ending, none if there is no file. A line that a killed process tore is left out."""
    return read_records(directory / FILE, EndedPhase)
