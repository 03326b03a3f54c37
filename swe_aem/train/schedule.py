"""`Schedule`: which tasks are rolled out, in which order, as the task sampler chose them once and for all.

DIR/sampler.jsonl    a `ScheduledStep` per step, written before anything that it chose is rolled out

With `max_staleness` above 0 a step may train on other groups than those that were chosen for it (`consumed.py`).
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from swe_aem.train.consumed import read_consumed
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


Consumed = Sequence[tuple[EpochTask, tuple[Trajectory, ...]]]
"""The groups that a step consumed, trained on or not, each with its stored trajectories."""


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
        seed: int,
        limits_reward: LimitsReward = "graded",
        consumed: Callable[[int], Consumed],
    ) -> None:
        """`name` is the sampler's, for errors; it chooses `count` tasks at a time. `consumed` reads what a step
        consumed."""
        self._sampler = sampler
        self._name = name
        self._tasks = tasks
        self._path = directory / SCHEDULE
        self._count = count
        self._seed = seed
        self._limits_reward: LimitsReward = limits_reward
        self._consumed = consumed
        self._records = {record.task.id: record for record in tasks}
        self._steps: list[list[EpochTask]] = []
        self._history: list[SampledGroup] = []
        self._times: Counter[str] = Counter()
        self._resume()

    def tasks(self, step: int, *, decided: int | None = None) -> list[EpochTask]:
        """The tasks that were chosen for a step, counted from 1. If the sampler has to choose them now, it sees what
        the first `decided` steps consumed, by default all before this one.

        Raises `ExtensionFailed` if the sampler raises, or gives what is no choice of tasks.
        """
        while len(self._steps) < step:
            chosen = len(self._steps)
            self._choose(chosen + 1, chosen if decided is None else decided)
        return self._steps[step - 1]

    def _choose(self, step: int, decided: int) -> None:
        last_seen = self._history[-1].step if self._history else 0
        seen = tuple(one for number in range(last_seen + 1, decided + 1) for one in self._sampled(number))
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

    def _sampled(self, step: int) -> Iterator[SampledGroup]:
        for task, group in self._consumed(step):
            yield sampled_group(step, task.record.task.id, group, self._limits_reward)

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
        if self._path.exists():
            replace(self._path, "".join(line.model_dump_json() + "\n" for line in lines))


def see_again(directory: Path, load: Callable[[str, int], tuple[Trajectory, ...]], limits_reward: LimitsReward) -> None:
    """Write `sampler.jsonl` with the rewards that the store has by now in what the sampler has seen. `load` reads the
    trajectories of a task in an epoch."""
    path = directory / SCHEDULE
    lines = list(read_lines(path, ScheduledStep, _readable))
    consumed = {step.step: [(one.task_id, one.epoch) for one in step.groups] for step in read_consumed(directory)}
    groups = _epochs(lines) | consumed
    changed = []
    for line in lines:
        steps = sorted({one.step for one in line.seen})
        seen = (sampled_group(step, id, load(id, epoch), limits_reward) for step in steps for id, epoch in groups[step])
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
