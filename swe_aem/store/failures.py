"""`failures.jsonl`: every failed attempt of a run, one JSON object per line, also those that left nothing in the store.

`read_failures(DIR)` reads it, also while the run writes it. The file does not grow beyond `MOST_BYTES`: attempts that
fail after that are counted by cause in `failures-left-out.json`, which `read_left_out(DIR)` reads.
"""

import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from swe_aem.core import TrajectoryKey
from swe_aem.core.base import Frozen
from swe_aem.runlog import AppendedFile, masked, note, traceback_of, utc_now
from swe_aem.store.files import replace
from swe_aem.store.records import read_records

FILE, LEFT_OUT = "failures.jsonl", "failures-left-out.json"
MOST_BYTES = 64_000_000
_MOST_CAUSES = 100
"""Different causes that are counted of attempts that are left out."""
_OTHERS = "other causes"

Part = Literal["agent", "grading"]
"""Was the agent rolled out, or its patch graded?"""
Blame = Literal["infrastructure", "policy", "extension", "input", "bug"]
"""Whose failure it was found to be: `extension` is code of the user's own, `input` a setting or a task that cannot be
used, `bug` this package's."""


class FailedAttempt(Frozen):
    """One attempt of a trajectory, or of grading its patch, that failed."""

    model_config = ConfigDict(extra="ignore")  # a later version may write more

    time: str = Field(default_factory=utc_now)
    """When it failed: UTC, ISO 8601 with milliseconds."""
    task_id: str
    sample: int
    attempt: int
    """Which failed attempt of its trajectory it is, from 1 in each process."""
    part: Part
    phase: str
    """What was being done, as in a trajectory's `timings_s`: queue, start, prepare, agent, patch, grade ..."""
    cause: str
    """Class of the exception, e.g. StartError."""
    message: str
    """What the exception says."""
    traceback: str = ""
    """The whole traceback, causes included."""
    blame: Blame = "infrastructure"
    """Whose failure it was found to be."""
    finding: str = ""
    """Why, where more is known than the message says."""
    host: str = Field(default_factory=socket.gethostname)

    @property
    def said(self) -> str:
        """The failure as one phrase."""
        why = f"{self.cause}: {self.message}" if self.message else self.cause
        return f"{self.part}: {why}" + (f" ({self.finding})" if self.finding else "")

    @property
    def key(self) -> TrajectoryKey:
        """Which trajectory of the run it is."""
        return TrajectoryKey(self.task_id, self.sample)


class LeftOut(Frozen):
    """Failed attempts of one cause that `failures.jsonl` had no space for."""

    model_config = ConfigDict(extra="ignore")

    cause: str
    part: Part
    blame: Blame
    attempts: int


def failed_attempt(error: BaseException, **given: Any) -> FailedAttempt:
    """The record of an exception; keys and what cannot be shown are taken out of its texts. `given` are the other
    fields."""
    texts = {"message": str(error), "traceback": traceback_of(error), "finding": given.pop("finding", "")}
    shown = {name: masked(text, indent="") for name, text in texts.items()}
    return FailedAttempt(cause=type(error).__name__, **shown, **given)


class FailureLog:
    """Appends to a directory's `failures.jsonl`; the directory is locked by whoever writes its store."""

    def __init__(self, directory: Path) -> None:
        self._left_out: dict[tuple[str, Part, Blame], int] = {
            (one.cause, one.part, one.blame): one.attempts for one in read_left_out(directory)
        }
        self.count = sum(1 for _ in read_failures(directory)) + sum(self._left_out.values())
        """Failed attempts of all processes so far."""
        self._path = directory / FILE
        self._file: AppendedFile | None = None

    def append(self, failed: FailedAttempt) -> None:
        """Write a failed attempt, in one call. A full disk ends nothing: the run ends where its store cannot grow."""
        self.count += 1
        try:
            if self._file is None:  # a run without failures has no such file
                self._file = AppendedFile(self._path)
        except OSError as error:
            note(f"{self._path} cannot be written: {error.strerror}", level=logging.WARNING)
        else:
            line = json.dumps(failed.model_dump()).encode("ascii") + b"\n"
            if self._file.size_bytes + len(line) > MOST_BYTES:
                self._leave_out(failed)
            else:
                self._file.append(line)

    def _leave_out(self, failed: FailedAttempt) -> None:
        """Count a failed attempt that the file has no space for."""
        if not self._left_out:
            note(f"{self._path} is full; further failures are counted in {LEFT_OUT}", level=logging.WARNING)
        known = (failed.cause, failed.part, failed.blame) in self._left_out or len(self._left_out) < _MOST_CAUSES
        key = (failed.cause if known else _OTHERS, failed.part, failed.blame)
        self._left_out[key] = self._left_out.get(key, 0) + 1
        counts = [
            LeftOut(cause=cause, part=part, blame=blame, attempts=attempts).model_dump()
            for (cause, part, blame), attempts in self._left_out.items()
        ]
        try:
            replace(self._path.with_name(LEFT_OUT), json.dumps(counts) + "\n")
        except OSError as error:
            note(f"{LEFT_OUT} cannot be written: {error.strerror}", level=logging.WARNING)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def read_failures(directory: Path) -> Iterator[FailedAttempt]:
    """The failed attempts of a run in the order of failing, none if there is no file. A line that a killed process tore
    is left out."""
    return read_records(directory / FILE, FailedAttempt)


def failures_of(directory: Path, key: TrajectoryKey) -> list[FailedAttempt]:
    """The failed attempts of one trajectory. The lines of other tasks are not parsed: a full file takes seconds."""
    found = read_records(directory / FILE, FailedAttempt, having=json.dumps(key.task_id).encode("ascii"))
    return [failed for failed in found if failed.key == key]


def read_left_out(directory: Path) -> list[LeftOut]:
    """How many further attempts failed, by cause; empty where `failures.jsonl` has all."""
    try:
        return [LeftOut.model_validate(one) for one in json.loads((directory / LEFT_OUT).read_bytes())]
    except (FileNotFoundError, ValueError, TypeError):  # it is replaced as a whole, so that no kill tears it
        return []
