"""Choosing tasks: by repository, difficulty, solve rate and lists of ids; samples and splits. Pure functions.

The result of a choice is a list of ids in a file. It can be read, compared and used again, even if the runs and sets
that it was made from are gone.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

from pydantic import Field, model_validator

from swe_aem.core import TaskRecord
from swe_aem.core.base import Frozen
from swe_aem.errors import UserError, why_unreadable
from swe_aem.tasks.taskset import TaskSet


class Selection(Frozen):
    """Which tasks of a set to keep. Every condition that is given must hold."""

    repos: tuple[str, ...] = ()
    """Globs of repositories, e.g. `django/*`; one must match."""
    not_repos: tuple[str, ...] = ()
    """Globs of repositories; none may match."""
    difficulties: tuple[str, ...] = ()
    """Values of the rows' `difficulty`."""
    solve_rate: tuple[float, float] | None = None
    """Lowest and highest share of an earlier run's samples that resolved the task, 0..1; a task without a verdict there
    is left out."""
    sample: int | None = Field(default=None, ge=1)
    """Size of a random sample of the remaining tasks; the same seed gives the same sample."""
    seed: int = 0

    @model_validator(mode="after")
    def _range_is_one(self) -> "Selection":
        if self.solve_rate is not None and not 0 <= self.solve_rate[0] <= self.solve_rate[1] <= 1:
            raise ValueError(f"solve_rate {self.solve_rate} is not a range within 0..1")
        return self


def select(
    tasks: TaskSet,
    selection: Selection,
    *,
    solve_rates: Mapping[str, float] | None = None,
    only: Collection[str] | None = None,
    without: Mapping[str, str] | None = None,
) -> tuple[TaskSet, Counter[str]]:
    """The chosen tasks in the set's order, and how many were left out for which reason.

    `solve_rates` maps the ids of an earlier run to shares; `only` are ids to keep; `without` maps ids that are left out
    to the reason.
    """
    kept, reasons = [], Counter()
    for record in tasks:
        reason = _reason(record, tasks, selection, solve_rates or {}, only, without or {})
        if reason is None:
            kept.append(record)
        else:
            reasons[reason] += 1
    if selection.sample is not None and len(kept) > selection.sample:
        reasons["not in the sample"] = len(kept) - selection.sample
        ordered = sorted(kept, key=lambda record: _digest(selection.seed, record.task.id))
        drawn = {record.task.id for record in ordered[: selection.sample]}
        kept = [record for record in kept if record.task.id in drawn]
    return replace(tasks, records=tuple(kept)), reasons


def _reason(
    record: TaskRecord,
    tasks: TaskSet,
    selection: Selection,
    solve_rates: Mapping[str, float],
    only: Collection[str] | None,
    without: Mapping[str, str],
) -> str | None:
    """Why a task is left out; None if it is kept."""
    id, repo = record.task.id, record.task.repo
    if only is not None and id not in only:
        return "not in the list"
    if id in without:
        return without[id]
    if selection.repos and not any(fnmatch(repo, pattern) for pattern in selection.repos):
        return "another repository"
    if any(fnmatch(repo, pattern) for pattern in selection.not_repos):
        return "an excluded repository"
    if selection.difficulties and tasks.labels.get(id, {}).get("difficulty") not in selection.difficulties:
        return "another difficulty"
    if selection.solve_rate is not None:
        if id not in solve_rates:
            return "no verdict in the earlier run"
        if not selection.solve_rate[0] <= solve_rates[id] <= selection.solve_rate[1]:
            return "another solve rate"
    return None


def split_by_repository(tasks: TaskSet, heldout: float, seed: int) -> tuple[TaskSet, TaskSet]:
    """(train, held out), with no repository in both.

    Repositories go to the held-out side in an order that the seed decides, as long as that brings its share of tasks
    nearer to `heldout` (0..1). Raises `UserError` if a side would be empty.
    """
    sizes = Counter(record.task.repo for record in tasks)
    wanted, taken, held = heldout * len(tasks), 0, set()
    for repo in sorted(sizes, key=lambda repo: _digest(seed, repo)):
        if abs(taken + sizes[repo] - wanted) < abs(taken - wanted):
            held.add(repo)
            taken += sizes[repo]
    sides = [tuple(r for r in tasks if (r.task.repo in held) is side) for side in (False, True)]
    if not all(sides):
        raise UserError(
            f"{tasks.name}: {len(sizes)} repositories cannot be split with {heldout:.0%} held out; choose another share"
        )
    return replace(tasks, records=sides[0]), replace(tasks, records=sides[1])


def read_ids(path: Path) -> tuple[str, ...]:
    """Ids from a file, one per line; comments after a `#` and blank lines are ignored. Raises `UserError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = why_unreadable(error)
        raise UserError(f"{path}: cannot be read ({why}); give a text file with one id per line") from None
    ids = tuple(id for line in text.split("\n") if (id := line.partition("#")[0].strip()))
    if not ids:
        raise UserError(f"{path}: holds no ids; give one per line")
    return ids


def ids_text(tasks: TaskSet, heading: str) -> str:
    """The content of a file of ids."""
    return "".join([f"# {heading}\n", *(f"{record.task.id}\n" for record in tasks)])


def _digest(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}\0{name}".encode()).hexdigest()
