"""Which tasks a step rolls out: a pure function of seed and step, so that a rerun has the same ones."""

import random
from collections.abc import Sequence
from typing import NamedTuple

from swe_aem.core import TaskRecord


class EpochTask(NamedTuple):
    """One group to roll out: a task, and the epoch in which it is."""

    record: TaskRecord
    epoch: int
    """From 0: how often the task was rolled out before."""


def epoch_tasks(records: Sequence[TaskRecord], *, step: int, per_step: int, seed: int) -> list[EpochTask]:
    """The tasks of a step, counted from 1: all tasks in a random order, then all again in another one, and so on."""
    first = (step - 1) * per_step
    found = []
    for place in range(first, first + per_step):
        epoch, index = divmod(place, len(records))
        found.append(EpochTask(records[_order(len(records), epoch, seed)[index]], epoch))
    return found


def _order(count: int, epoch: int, seed: int) -> list[int]:
    return random.Random(f"{seed} {epoch}").sample(range(count), count)
