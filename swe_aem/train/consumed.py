"""`ConsumedLog`: which groups each step consumed, where `max_staleness` lets the order of completion decide that.

DIR/consumed.jsonl    a `ConsumedStep` per step, durable before the step is trained

A step that is trained again after a kill has the groups of its line, in the same order.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from swe_aem.core.base import Frozen
from swe_aem.errors import UserError
from swe_aem.store import FORMAT, replace
from swe_aem.store.upgrade import require_readable
from swe_aem.train.records import read_lines

CONSUMED = "consumed.jsonl"
Use = Literal["trained", "rejected", "dropped"]
"""What a step did with a group."""


class ConsumedGroup(Frozen):
    """One group that left the queue."""

    task_id: str
    epoch: int = Field(ge=0)
    """How often the task was chosen before: with it, which of the task's groups this is."""
    use: Use


class ConsumedStep(Frozen):
    """One line of `consumed.jsonl`."""

    format: int = FORMAT
    step: int = Field(ge=1)
    groups: tuple[ConsumedGroup, ...]
    """In the order in which they are trained on, and then those that are not."""


class ConsumedLog:
    """The lines of a run. Steps are added in order."""

    def __init__(self, directory: Path) -> None:
        """Read what earlier processes wrote; a line that a killed one did not finish was never acted upon. Raises
        `UserError` for a damaged file."""
        self._path = directory / CONSUMED
        self._steps = read_consumed(directory)
        for number, step in enumerate(self._steps, start=1):
            if step.step != number:
                raise UserError(
                    f"{self._path}, line {number}: step {step.step} in the place of {number}; restore the file, or "
                    "choose another --out"
                )
        if self._path.exists():
            replace(self._path, "".join(map(_line, self._steps)))

    @property
    def steps(self) -> Sequence[ConsumedStep]:
        """All steps, the first one first."""
        return self._steps

    def append(self, groups: Sequence[ConsumedGroup]) -> None:
        """Add the next step's line, which is on disk when this returns."""
        step = ConsumedStep(step=len(self._steps) + 1, groups=tuple(groups))
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line(step))
            file.flush()
            os.fsync(file.fileno())
        self._steps.append(step)


def read_consumed(directory: Path) -> list[ConsumedStep]:
    """The steps in a run's `consumed.jsonl`, none if there is no such file, as at `max_staleness` 0."""
    return list(read_lines(directory / CONSUMED, ConsumedStep, _readable))


def _line(step: ConsumedStep) -> str:
    return step.model_dump_json() + "\n"


def _readable(record: Mapping[str, Any], where: str) -> dict[str, Any]:
    require_readable(record.get("format", FORMAT), where)
    return dict(record)
