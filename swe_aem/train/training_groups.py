"""`TrainingGroups`: the groups of a training run, from the sampler's choice to the step that consumes them.

    lacks = await groups.lack(step)     # do policy and sandboxes have anything to do from now on?
    groups.trained(step - 1)            # the policy has the weights
    await rollout.run(groups)           # the orchestrator asks for groups, and tells how they fare
    taken = await groups.take(step)     # waits

`GroupQueue` decides; this gives it the order of `sampler.jsonl`, what is in the store, and what `consumed.jsonl` says
that earlier processes trained on. At `max_staleness` 0 a step consumes the groups that were chosen for it: there is no
such file, and `next` gives no more once they have begun.
"""

import asyncio
import copy
import time
from collections.abc import Sequence
from pathlib import Path

from swe_aem.core import TaskRecord, TrajectoryKey
from swe_aem.errors import UserError
from swe_aem.rollout import RolloutGroup, RolloutRun
from swe_aem.train.config import TrainConfig
from swe_aem.train.consumed import CONSUMED, ConsumedGroup, ConsumedLog, Use
from swe_aem.train.group_queue import GroupQueue, Taken
from swe_aem.train.schedule import Consumed, EpochTask, Schedule
from swe_aem.train.steps import Step, TrajectoryGroup, oldest_version, prepared, require_one_version, worth_of
from swe_aem.train.task_samplers import TASK_SAMPLERS


class _Begun:
    """A group that has begun, or is about to."""

    def __init__(self, task: EpochTask, group: RolloutGroup, version: int | None) -> None:
        """`version` is that of its oldest token in the store."""
        self.task, self.group, self.version = task, group, version
        self.began_s: float | None = None
        """When its first trajectory started, on the monotonic clock; None if all of it was in the store."""
        self.ended_s: float | None = None


class TrainingGroups:
    """A `GroupSource` of a run's tasks, and the steps that its groups make. For one event loop; one step at a time."""

    def __init__(self, config: TrainConfig, tasks: Sequence[TaskRecord], directory: Path, rollout: RolloutRun) -> None:
        """`rollout` has the store, which must be open from the first call on. Raises `UserError` for files of the
        directory that are damaged or of other tasks."""
        self._config = config
        self._rules = config.queue
        self._rollout = rollout
        self._directory = directory
        self._records = {record.task.id: record for record in tasks}
        self._log = ConsumedLog(directory) if config.max_staleness else None
        self._schedule = Schedule(
            TASK_SAMPLERS.function(config.task_sampler, "inputs"),
            TASK_SAMPLERS.name_of(config.task_sampler),
            tasks,
            directory,
            count=config.rolled_out_groups,
            seed=config.seed,
            limits_reward=config.limits_reward,
            consumed=self._consumed,
        )
        self._queue: GroupQueue | None = None
        self._next = 0
        """Place of the next group in the order in which tasks were chosen."""
        self._begun: dict[int, _Begun] = {}
        self._given: set[int] = set()
        """Groups that the run has been given, and of which no trajectory has started yet."""
        self._places: dict[TrajectoryKey, int] = {}
        self._ended: list[int] = []
        """Groups that have ended, and were not looked at yet."""
        self._gone: set[tuple[str, int]] = set()
        """Task and epoch of the groups that earlier processes consumed."""
        self._stuck = False
        self._changed = asyncio.Event()
        self._choosing = asyncio.Lock()
        self._judging = asyncio.Lock()

    # The run's side: a `GroupSource`.

    @property
    def tasks(self) -> int:
        """How many tasks are rolled out at once, at most."""
        return min(len(self._records), self._rules.most_begun)

    async def next(self) -> RolloutGroup | None:
        """The next group that lacks something; waits until it may begin. At `max_staleness` 0 None where none may."""
        while True:
            await self._judge()
            if (group := await self._advance()) is not None:
                return group
            if self._ended:
                continue
            if self._stuck or not self._rules.max_staleness:
                return None
            self._changed.clear()
            await self._changed.wait()

    def begun(self, group: RolloutGroup) -> None:
        """Its first trajectory starts."""
        number = self._places[group.keys[0]]
        one = self._begun[number]
        one.began_s, self._stuck = time.monotonic(), False
        self._given.discard(number)
        self._open_queue.begin(number, one.version)

    def ended(self, group: RolloutGroup) -> None:
        """All of it is in the store."""
        number = self._places[group.keys[0]]
        self._begun[number].ended_s = time.monotonic()
        self._ended.append(number)
        self._changed.set()

    def stuck(self) -> None:
        """Nothing runs that could end."""
        self._stuck = True
        self._changed.set()

    # The trainer's side.

    def replays(self, step: int) -> bool:
        """Did an earlier process decide what the step consumes? It is read from the store."""
        return self._log is not None and step <= len(self._log.steps)

    async def lack(self, step: int) -> bool:
        """Is anything to be rolled out from now on, with the weights that the step begins with?"""
        if self.replays(step):
            return False
        if self._given:
            return True
        queue = copy.deepcopy(self._queue_of(step))
        if queue.version < step - 1:
            queue.trained()
        number = self._next
        while queue.may_begin():
            number, task = await self._chosen(number)
            group = self._group(task)
            if self._lacks(group):
                return True
            stored = await self._load(task)
            queue.begin(number, oldest_version(stored))
            queue.complete(number, worth_of(self._prepared(stored), self._config.limits_reward))
            number += 1
        return queue.running > 0 or (self._rules.max_staleness > 0 and not queue.exhausted)

    def trained(self, steps: int) -> None:
        """So many steps are trained, and the policy has their weights if it will be asked for anything."""
        if self._queue is not None and self._queue.version < steps:
            self._queue.trained()
            self._changed.set()

    async def take(self, step: int) -> Step:
        """The step, once its groups are complete. What it consumes is durable when this returns."""
        if self.replays(step):
            return await self._replay(step)
        queue, held_back_s = self._queue_of(step), 0.0
        while True:
            await self._judge()
            if (taken := queue.take()) is not None:
                break
            if self._ended:
                continue
            held_back, waits_s = queue.held_back, time.monotonic()
            self._changed.clear()
            await self._changed.wait()
            held_back_s += held_back * (time.monotonic() - waits_s)
        return await self._step(step, taken, queue, held_back_s)

    async def admit(self) -> None:
        """Put what the store has whole of the next groups into the queue, where no run asks for groups."""
        group = await self.next()
        assert group is None, "something is to be rolled out"

    # Between the two.

    @property
    def _open_queue(self) -> GroupQueue:
        assert self._queue is not None, "no step was asked for"
        return self._queue

    def _queue_of(self, step: int) -> GroupQueue:
        """The queue; it begins with the first step that was not decided before."""
        if self._queue is None:
            self._queue = GroupQueue(self._rules, trained=step - 1, consumed=self._consumed_before())
            if self._log is None:
                self._next = (step - 1) * self._rules.consumed_per_step
            elif step > len(self._log.steps) + 1:
                raise UserError(
                    f"{self._directory / CONSUMED} ends with step {len(self._log.steps)}, and step {step - 1} is "
                    "trained: restore the file, or choose another --out"
                )
            else:
                self._gone = {(one.task_id, one.epoch) for line in self._log.steps for one in line.groups}
        return self._queue

    def _consumed_before(self) -> int | None:
        """Groups that earlier processes trained on or rejected; None where each step consumed as many as it may."""
        if self._log is None:
            return None
        return sum(one.use != "dropped" for line in self._log.steps for one in line.groups)

    async def _advance(self) -> RolloutGroup | None:
        """Begin groups that are whole in the store, up to the first one that is not; None if no more may begin."""
        queue = self._open_queue
        while queue.may_begin(about_to=len(self._given)):
            number, task = await self._chosen(self._next)
            group = self._group(task)
            stored = await self._load(task) if len(group.missing) < len(group.keys) else ()
            self._next = number + 1
            self._places[group.keys[0]] = number
            self._begun[number] = _Begun(task, group, oldest_version(stored))
            if self._lacks(group):
                self._given.add(number)
                return group
            queue.begin(number, oldest_version(stored))
            self._ended.append(number)
            await self._judge()
        return None

    async def _chosen(self, number: int) -> tuple[int, EpochTask]:
        """The first place from `number` on whose group no earlier process consumed, and its task. A user's task sampler
        may take its time, so it runs beside the event loop."""
        async with self._choosing:
            while True:
                step, place = divmod(number, self._rules.consumed_per_step)
                decided = None if self._log is None else len(self._log.steps)
                chosen = await asyncio.to_thread(self._schedule.tasks, step + 1, decided=decided)
                if (chosen[place].record.task.id, chosen[place].epoch) not in self._gone:
                    return number, chosen[place]
                number += 1

    async def _judge(self) -> None:
        """Tell the queue what came of the groups that have ended."""
        async with self._judging:
            while self._ended:
                number = self._ended[0]
                stored = self._prepared(await self._load(self._begun[number].task))
                self._open_queue.complete(number, worth_of(stored, self._config.limits_reward))
                self._ended.pop(0)
                self._changed.set()

    async def _step(self, step: int, taken: Taken, queue: GroupQueue, held_back_s: float) -> Step:
        if self._log is not None:
            uses: tuple[tuple[tuple[int, ...], Use], ...] = (
                (taken.trained, "trained"),
                (taken.rejected, "rejected"),
                (taken.dropped, "dropped"),
            )
            self._log.append(
                [
                    ConsumedGroup(task_id=task.record.task.id, epoch=task.epoch, use=use)
                    for numbers, use in uses
                    for task in (self._begun[number].task for number in numbers)
                ]
            )
        left = [self._begun.pop(number) for number in (*taken.trained, *taken.rejected, *taken.dropped)]
        for one in left:
            del self._places[one.group.keys[0]]
        loaded = [await self._load(one.task) for one in left]
        if not self._rules.max_staleness:
            require_one_version(loaded)
        seconds = [(one.began_s, one.ended_s) for one in left if one.began_s is not None and one.ended_s is not None]
        trained, kept = len(taken.trained), len(taken.trained) + len(taken.rejected)
        return self._made(
            step,
            loaded[:trained],
            loaded[trained:kept],
            loaded[kept:],
            queued_groups=queue.complete_groups,
            running_groups=queue.running,
            held_back_s=held_back_s,
            rollout_s=max(last for _, last in seconds) - min(first for first, _ in seconds) if seconds else 0.0,
        )

    async def _replay(self, step: int) -> Step:
        assert self._log is not None
        by_use: dict[str, list[TrajectoryGroup]] = {"trained": [], "rejected": [], "dropped": []}
        for one in self._log.steps[step - 1].groups:
            task = self._task(one)
            if self._lacks(self._group(task)):
                raise UserError(
                    f"{self._directory} lacks trajectories of {one.task_id} that step {step} was trained on: restore "
                    "its store, or choose another --out"
                )
            by_use[one.use].append(await self._load(task))
        return self._made(step, *by_use.values())

    def _made(
        self,
        step: int,
        trained: Sequence[TrajectoryGroup],
        rejected: Sequence[TrajectoryGroup],
        dropped: Sequence[TrajectoryGroup],
        **figures: float,
    ) -> Step:
        groups = {"groups": trained, "rejected": rejected, "dropped": dropped}
        cut_to_size = {name: tuple(map(self._prepared, some)) for name, some in groups.items()}
        return Step.model_validate(
            {"number": step, "limits_reward": self._config.limits_reward, **cut_to_size, **figures}
        )

    def _prepared(self, group: TrajectoryGroup) -> TrajectoryGroup:
        return prepared(group, self._config.rollout.group_size)

    def _task(self, one: ConsumedGroup) -> EpochTask:
        if one.task_id not in self._records:
            raise UserError(f"{self._directory / CONSUMED} names {one.task_id}, which is no task of this run")
        return EpochTask(self._records[one.task_id], one.epoch)

    def _group(self, task: EpochTask) -> RolloutGroup:
        return self._rollout.group(task.record, task.epoch)

    def _lacks(self, group: RolloutGroup) -> bool:
        return bool(group.missing) and not (self._config.rollout.early_completion and group.complete)

    async def _load(self, task: EpochTask) -> TrajectoryGroup:
        return await asyncio.to_thread(self._rollout.load, self._group(task))

    def _consumed(self, step: int) -> Consumed:
        """The groups that a step consumed, as a task sampler sees them."""
        tasks = (
            self._schedule.tasks(step)
            if self._log is None
            else [self._task(one) for one in self._log.steps[step - 1].groups]
        )
        return [(task, self._rollout.load(self._group(task))) for task in tasks]
