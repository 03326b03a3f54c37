"""`Schedule`: which tasks each step rolls out, as the task sampler chose them once and for all.

DIR/sampler.jsonl    a `ScheduledStep` per step, written before anything of the step is rolled out
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from swe_aem.core import TaskRecord, Trajectory
from swe_aem.core.base import Frozen
from swe_aem.core.outcome import LimitsReward
from swe_aem.errors import ExtensionFailed, UserError
from swe_aem.store import FORMAT, replace
from swe_aem.store.upgrade import require_readable
from swe_aem.suggest import did_you_mean
from swe_aem.train.records import read_lines
from swe_aem.train.task_samplers import SampledGroup, TaskSampler, TaskSamplerInputs, sampled_group

SCHEDULE = "sampler.jsonl"


class EpochTask(NamedTuple):
    """One group to roll out: a task, and the epoch in which it is."""

    record: TaskRecord
    epoch: int
    """From 0: how often the task was chosen before."""


class ScheduledStep(Frozen):
    """One line of `sampler.jsonl`: what was chosen for a step, and what the sampler saw for the first time then."""

    format: int = FORMAT
    step: int = Field(ge=1)
    tasks: tuple[str, ...]
    """Ids of the tasks that are rolled out, in order."""
    seen: tuple[SampledGroup, ...] = ()
    """Groups that came into the sampler's history with this step."""


Groups = Sequence[tuple[Trajectory, ...]]
"""The trajectories of each group of a step, in the order of its tasks."""


class Schedule:
    """The tasks of each step. The sampler is asked step after step, and never twice for the same step: what it chose is
    on disk before anybody learns it. Not for several threads at a time."""

    def __init__(
        self,
        sampler: TaskSampler,
        name: str,
        tasks: Sequence[TaskRecord],
        directory: Path,
        *,
        count: int,
        max_staleness: int,
        seed: int,
        limits_reward: LimitsReward = "graded",
        load: Callable[[Sequence[EpochTask]], Groups],
    ) -> None:
        """`name` is the sampler's, for errors; a step rolls out `count` tasks, and may begin while the
        `max_staleness` steps before it are not trained. `load` reads the groups of an earlier step from the store."""
        self._sampler = sampler
        self._name = name
        self._tasks = tasks
        self._path = directory / SCHEDULE
        self._count = count
        self._max_staleness = max_staleness
        self._seed = seed
        self._limits_reward: LimitsReward = limits_reward
        self._load = load
        self._records = {record.task.id: record for record in tasks}
        self._steps: list[list[EpochTask]] = []
        self._history: list[SampledGroup] = []
        self._results: dict[int, tuple[SampledGroup, ...]] = {}
        self._times: Counter[str] = Counter()
        self._resume()

    def tasks(self, step: int) -> list[EpochTask]:
        """The tasks of a step, counted from 1. Everything that step `step - 1 - max_staleness` rolled out must be
        stored.

        Raises `ExtensionFailed` if the sampler raises, or gives what is no choice of tasks.
        """
        while len(self._steps) < step:
            self._choose(len(self._steps) + 1)
        return self._steps[step - 1]

    def ended(self, step: int, groups: Groups) -> None:
        """The groups of a step as they are in the store: what a later step's sampler sees of it."""
        self._results[step] = self._sampled(step, groups)

    def _choose(self, step: int) -> None:
        seen_step = step - 1 - self._max_staleness
        seen: tuple[SampledGroup, ...] = ()
        if seen_step >= 1:
            known = self._results.pop(seen_step, None)
            tasks = self._steps[seen_step - 1]
            seen = known if known is not None else self._sampled(seen_step, self._load(tasks))
        inputs = TaskSamplerInputs(self._tasks, step, self._count, self._seed, (*self._history, *seen))
        line = ScheduledStep(step=step, tasks=self._checked(self._ask(inputs), step), seen=seen)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._take(line)

    def _ask(self, inputs: TaskSamplerInputs) -> Any:
        try:
            return self._sampler(inputs)
        except Exception as error:
            what = f"raised {type(error).__name__}: {error}"
            raise ExtensionFailed(f"task sampler {self._name}, step {inputs.step}: it {what}") from error

    def _take(self, line: ScheduledStep) -> None:
        chosen = []
        for id in line.tasks:
            chosen.append(EpochTask(self._records[id], self._times[id]))
            self._times[id] += 1
        self._steps.append(chosen)
        self._history.extend(line.seen)

    def _sampled(self, step: int, groups: Groups) -> tuple[SampledGroup, ...]:
        ids = [one.record.task.id for one in self._steps[step - 1]]
        return tuple(sampled_group(step, id, group, self._limits_reward) for id, group in zip(ids, groups, strict=True))

    def _checked(self, chosen: Any, step: int) -> tuple[str, ...]:
        """The sampler's answer, if it is one."""
        told = f"task sampler {self._name}, step {step}"
        if isinstance(chosen, str) or not isinstance(chosen, Sequence):
            raise ExtensionFailed(f"{told}: it must return a list of task ids, not {chosen!r:.80}")
        for id in chosen:
            if not isinstance(id, str):
                raise ExtensionFailed(f"{told}: it must return ids, as record.task.id has them, not {id!r:.80}")
            if id not in self._records:
                raise ExtensionFailed(f"{told}: it chose {id!r:.80}, which is no task of this run{self._hint(id)}")
        if len(chosen) != self._count:
            raise ExtensionFailed(f"{told}: it chose {len(chosen)} tasks, and inputs.count is {self._count}")
        return tuple(chosen)

    def _hint(self, id: str) -> str:
        return did_you_mean(id, list(self._records))

    def _resume(self) -> None:
        """Take what earlier processes chose; a line that a killed one did not finish was never acted upon."""
        lines = list(read_lines(self._path, ScheduledStep, _readable))
        for number, line in enumerate(lines, start=1):
            unknown = [id for id in line.tasks if id not in self._records]
            if line.step != number or unknown:
                what = f"no task {unknown[0]} in this run" if unknown else f"step {line.step} in the place of {number}"
                raise UserError(f"{self._path}, line {number}: {what}; restore the file, or choose another --out")
            self._take(line)
        if lines:
            replace(self._path, "".join(line.model_dump_json() + "\n" for line in lines))


def see_again(directory: Path, load: Callable[[str, int], tuple[Trajectory, ...]], limits_reward: LimitsReward) -> None:
    """Write `sampler.jsonl` with the rewards that the store has by now in what the sampler has seen. `load` reads the
    trajectories of a task in an epoch."""
    path = directory / SCHEDULE
    lines = list(read_lines(path, ScheduledStep, _readable))
    epochs = _epochs(lines)
    changed = []
    for line in lines:
        chosen = epochs[line.seen[0].step] if line.seen else []
        seen = (
            sampled_group(one.step, id, load(id, epoch), limits_reward)
            for one, (id, epoch) in zip(line.seen, chosen, strict=True)
        )
        changed.append(line.model_copy(update={"seen": tuple(seen)}))
    if changed:
        replace(path, "".join(line.model_dump_json() + "\n" for line in changed))


def _epochs(lines: Sequence[ScheduledStep]) -> dict[int, list[tuple[str, int]]]:
    """The tasks of each step, with the epoch that each was chosen for."""
    times: Counter[str] = Counter()
    found: dict[int, list[tuple[str, int]]] = {}
    for line in lines:
        found[line.step] = []
        for id in line.tasks:
            found[line.step].append((id, times[id]))
            times[id] += 1
    return found


def _readable(record: Mapping[str, Any], where: str) -> dict[str, Any]:
    require_readable(record.get("format", FORMAT), where)
    return dict(record)
