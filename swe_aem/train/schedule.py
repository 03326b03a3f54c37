"""Which tasks a step visits: a pure function of seed and step, so that a rerun visits the same ones."""

import random
from collections.abc import Sequence
from typing import NamedTuple

from swe_aem.core import TaskRecord


class Visit(NamedTuple):
    """One group to roll out: a task, and how many times it was visited before."""

    record: TaskRecord
    number: int


def visits(records: Sequence[TaskRecord], *, step: int, per_step: int, seed: int) -> list[Visit]:
    """The visits of a step, counted from 1: all tasks in a random order, then all again in another one, and so on."""
    first = (step - 1) * per_step
    found = []
    for place in range(first, first + per_step):
        epoch, index = divmod(place, len(records))
        found.append(Visit(records[_order(len(records), epoch, seed)[index]], epoch))
    return found


def _order(count: int, epoch: int, seed: int) -> list[int]:
    return random.Random(f"{seed} {epoch}").sample(range(count), count)
