"""`verdicts.jsonl`: one line per graded prediction, as `swe-aem grade` writes them into its directory.

A line is durable before it counts and ends with its checksum, so a kill at any moment loses no verdict and repeats
none. Only the last line can be torn; the next writer drops it, and its prediction is graded again.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from swe_aem.core import Outcome, Stop, Trajectory, TrajectoryKey, Verdict
from swe_aem.core.base import Frozen
from swe_aem.core.explain import explain
from swe_aem.core.outcomes import is_infrastructure_failure
from swe_aem.errors import UserError
from swe_aem.store.files import locked, replace, sync_directory
from swe_aem.store.logs import keep_log
from swe_aem.store.segments import seal, sound, sound_end

FILE = "verdicts.jsonl"


class Before(Frozen):
    """What a verdict was before its log was read again."""

    resolved: bool | None
    official_resolved: bool | None
    outcome: Outcome
    evidence: tuple[str, ...]


class GradedPrediction(Frozen):
    """One line: the verdict on one prediction, or why there is none."""

    instance_id: str
    resolved: bool | None
    """None where there is no verdict."""
    official_resolved: bool | None
    """What swebench's parser and rule alone say of the log; None where there was no log, or they cannot say."""
    outcome: Outcome
    reward: float | None
    evidence: tuple[str, ...]
    """Evidence of cheating."""
    failure: str | None
    """Why there is no verdict: an infrastructure failure, or a broken task."""
    wall_s: float
    """Seconds that the prediction took, all attempts together."""
    cpu_s: float | None
    """Processor seconds of the evaluation of the tests, those with twins not included; None where nothing counts
    them."""
    sample: int = 0
    """Number of the prediction among those for the same task."""
    model: str = ""
    stop: Stop = Stop.SUBMITTED
    """How the agent ended that made the patch; a predictions file holds what was submitted."""
    attempt: int = 0
    """How many attempts ended in an infrastructure failure."""
    verdict: Verdict | None = None
    before: Before | None = None
    """Only where a log was read again."""

    @property
    def key(self) -> TrajectoryKey:
        """Which prediction it is."""
        return TrajectoryKey(self.instance_id, self.sample)

    def trajectory(self) -> Trajectory:
        """The prediction as a trajectory of which only the end is known."""
        return Trajectory(
            task_id=self.instance_id,
            sample=self.sample,
            attempt=self.attempt,
            agent="",
            model=self.model,
            stop=self.stop,
            outcome=self.outcome,
            reward=self.reward,
            verdict=self.verdict,
            error=self.failure,
        )


def graded_prediction(trajectory: Trajectory, wall_s: float, before: Before | None = None) -> GradedPrediction:
    """The line for a terminal trajectory."""
    assert trajectory.outcome is not None, "only terminal trajectories are written"
    verdict = trajectory.verdict
    no_verdict = is_infrastructure_failure(trajectory) or trajectory.outcome is Outcome.BROKEN_TASK
    return GradedPrediction(
        instance_id=trajectory.task_id,
        resolved=None if no_verdict else verdict is not None and verdict.resolved,
        official_resolved=verdict.official_resolved if verdict else None,
        outcome=trajectory.outcome,
        reward=trajectory.reward,
        evidence=verdict.integrity if verdict else (),
        failure=(trajectory.error or "unknown") if no_verdict else None,
        wall_s=wall_s,
        cpu_s=verdict.cpu_s if verdict else None,
        sample=trajectory.sample,
        model=trajectory.model,
        stop=trajectory.stop or Stop.SUBMITTED,
        attempt=trajectory.attempt,
        verdict=verdict,
        before=before,
    )


def is_graded_directory(directory: Path) -> bool:
    """Is it a directory of `swe-aem grade`?"""
    return (directory / FILE).is_file()


def read_graded(directory: Path) -> list[GradedPrediction]:
    """All lines but a torn last one; raises `UserError` with file and line for a damaged one, or two for one
    prediction."""
    path = directory / FILE
    if not path.exists():
        return []
    found: dict[TrajectoryKey, GradedPrediction] = {}
    end = sound_end(path)
    with path.open("rb") as file:
        for number, line in enumerate(iter(file.readline, b""), start=1):
            if file.tell() > end:
                break
            if not sound(line):
                raise UserError(
                    f"{path}, line {number}: the verdict is damaged (its checksum does not fit); delete that line, and "
                    "its prediction is graded again"
                )
            row = _row(line, f"{path}, line {number}")
            if row.key in found:
                raise UserError(f"{path}, line {number}: a second verdict on {row.key}; delete one of the two lines")
            found[row.key] = row
    return list(found.values())


def write_graded(directory: Path, rows: list[GradedPrediction]) -> None:
    """Replace all lines at once."""
    replace(directory / FILE, b"".join(map(_line, rows)))


class GradedWriter:
    """Appends to a locked directory. Made by `graded_writer`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.rows = {row.key: row for row in read_graded(directory)}
        """Every line."""
        self._fd: int | None = None

    def forget_failures(self) -> list[GradedPrediction]:
        """Drop the lines that have no verdict, so that their predictions are graded again; returns them."""
        dropped = [row for row in self.rows.values() if row.failure is not None]
        self.rows = {key: row for key, row in self.rows.items() if row.failure is None}
        if dropped:
            write_graded(self.directory, list(self.rows.values()))
        return dropped

    def append(self, row: GradedPrediction, log: bytes = b"") -> None:
        """Write a line, and before it the kept log if there is one; durable on return."""
        if row.key in self.rows:
            raise ValueError(f"{row.key} is already in {self.directory}")
        keep_log(self.directory, row.key, log)
        fd = self._open()
        start = os.fstat(fd).st_size
        rest = memoryview(_line(row))
        try:
            while rest:
                rest = rest[os.write(fd, rest) :]
            os.fsync(fd)
        except OSError:
            os.ftruncate(fd, start)
            raise
        self.rows[row.key] = row

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> int:
        if self._fd is None:
            path = self.directory / FILE
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            os.ftruncate(self._fd, sound_end(path))
            sync_directory(self.directory)
        return self._fd


@contextmanager
def graded_writer(directory: Path) -> Iterator[GradedWriter]:
    """Lock a directory and open it for appending; makes it. Raises `UserError` if another process writes it, if a line
    in the middle is damaged, or if a rollout lies there."""
    if (directory / "trajectories").is_dir():
        raise UserError(f"{directory} holds a rollout; choose another --out")
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory):
        writer = GradedWriter(directory)
        try:
            yield writer
        finally:
            writer.close()


def _line(row: GradedPrediction) -> bytes:
    return seal(json.dumps(row.model_dump(mode="json"), allow_nan=False).encode("ascii"))


def _row(line: bytes, where: str) -> GradedPrediction:
    try:
        values: dict[str, Any] = json.loads(line)
        values.pop("sha256", None)
        return GradedPrediction.model_validate(values)
    except ValidationError as error:
        detail = explain(error, GradedPrediction)
        raise UserError(f"{where}: not a verdict of this version of swe-aem ({detail}); choose another --out") from None
