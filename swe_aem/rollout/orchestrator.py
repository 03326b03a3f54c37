"""`Orchestrator`: runs every trajectory that the store lacks until it has exactly one terminal record there.

    dispatch ──place──> `Roller` (start, prepare, agent, patch, verdict, reward, sealed line) ──> store

It knows groups, the budget and the store; how and where a trajectory is rolled out is the roller's.

A task whose image or work tree is not there is left out, and the others are rolled out. When the budget is used up,
agents end at their next request, and what is graded is graded to its end.

An unexpected exception in one trajectory is a bug: it cancels the others and leaves `run`. Nothing that ends this
process loses or doubles a record, because a record is durable before it counts and a rerun starts from what is in the
store.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn, TypeVar

from swe_aem.core import TrajectoryKey
from swe_aem.core.unless import unless_set
from swe_aem.errors import (
    BudgetSpent,
    ExtensionFailed,
    RunAborted,
    SweAemError,
    TaskUnusable,
    UserError,
)
from swe_aem.policy import RunRefused
from swe_aem.rollout.breaker import Breaker, FirstAnswer, describe
from swe_aem.rollout.config import RolloutConfig
from swe_aem.rollout.group import RolloutGroup
from swe_aem.rollout.group_source import GivenGroups, GroupSource
from swe_aem.rollout.patch_grading import grading_breaker
from swe_aem.rollout.progress import RunProgress, stored_text
from swe_aem.rollout.roller import Done, Place, RewardFailed, Roller, RunState, StartingGroup
from swe_aem.rollout.supply import TaskSupply
from swe_aem.rollout.unrewarded import keep_unrewarded, kept_where
from swe_aem.runlog import note
from swe_aem.store import StoreWriter

_T = TypeVar("_T")


class Orchestrator:
    """One process's work on one store. Use once."""

    def __init__(
        self,
        config: RolloutConfig,
        groups: Sequence[RolloutGroup] | GroupSource,
        roller: Roller,
        writer: StoreWriter,
        progress: RunProgress,
        *,
        supply: TaskSupply | None = None,
        leave_out: bool = True,
    ) -> None:
        """An open `supply` brings what tasks need; without one, everything is there. `leave_out`: a task that cannot be
        rolled out here costs itself only; otherwise it ends the run."""
        self._config = config
        self._roller = roller
        self._writer = writer
        self._progress = progress
        self._ends_with: SweAemError | None = None
        self._leaves_out = leave_out
        self._cut_off = 0  # trajectories that the end of the budget cut off
        self._grows = isinstance(groups, GroupSource)
        self._some_are_there = not isinstance(groups, GroupSource) and any(not group.missing for group in groups)
        """Does the store have all of some of the given groups?"""
        self._source = groups if isinstance(groups, GroupSource) else GivenGroups(groups)
        self._tasks = self._source.tasks
        self._group_of: dict[TrajectoryKey, RolloutGroup] = {}
        self._running = 0
        self._starting = 0
        """Groups that are being started beside each other."""
        self._asks = False
        """Is the source asked for a group?"""
        self._unsettled: list[Done] = []
        self._supply = supply
        self._users: Counter[str] = Counter()
        self._stopping = asyncio.Event()
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._main: asyncio.Task[None] | None = None
        self._drain: asyncio.TimerHandle | None = None
        self._cancelled = False
        self.interrupted = False
        """Was the run ended by `stop` or `cancel`?"""
        self.budget_spent = False
        """Did the run end before all trajectories because what is left of its budget is not enough for another one?"""

    async def run(self) -> None:
        """Return when every trajectory is in the store, the budget is used up, or the run was interrupted.

        Raises `RunAborted` if too many attempts fail in a row, none succeeds after the last failures, or the policy
        answers nothing; `UserError` for input that a component refuses or if no task can be rolled out here;
        `ExtensionFailed` for code of a user's own that raised, of a reward function once what was running has ended;
        `RunRefused`, once what was running has ended, for a policy that worked and now refuses everything; and whatever
        bug surfaces in a trajectory.
        """
        self._main = asyncio.create_task(self._run_all())
        try:
            await asyncio.wait({self._main})
        except asyncio.CancelledError:  # our caller was cancelled: end the trajectories before we go
            self.cancel()
            await asyncio.wait({self._main})
            raise
        finally:
            if self._drain is not None:
                self._drain.cancel()
        if not (self._main.cancelled() and self.interrupted):
            self._main.result()
        if self._ends_with is not None:
            raise self._ends_with

    def stop(self) -> None:
        """Start nothing more and let what runs finish, but no longer than the drain limit."""
        if not self.interrupted:
            self.interrupted = True
            self._stopping.set()
            self._drain = asyncio.get_running_loop().call_later(self._config.scheduling.drain_limit_s, self.cancel)

    def cancel(self) -> None:
        """Cancel everything that runs; sandboxes are closed before `run` returns. A second call changes nothing."""
        self.interrupted = True
        self._stopping.set()
        # Once only: a second cancellation would break off the closing of sandboxes that the first one began.
        if self._main is not None and not self._cancelled:
            self._cancelled = True
            self._main.cancel()

    def _end_if_stopping(self) -> None:
        """Nothing runs anywhere: what was to finish cannot."""
        if self.interrupted:
            self.cancel()

    async def _run_all(self) -> None:
        run = self._run_state()
        try:
            async with self._roller.open(run):
                try:
                    async with asyncio.TaskGroup() as tasks:
                        await self._dispatch(tasks, run)
                except BaseExceptionGroup as group:
                    raise_first(group)
            self._tell_end()
            self._require_usable()
            self._give_up_unsettled()
        finally:
            self._disk.shutdown()  # a record that is being written gets written

    def _run_state(self) -> RunState:
        limit = self._config.consecutive_failures
        return RunState(
            watcher=self._progress,
            agent_breaker=Breaker("run the agent", limit, tasks=self._tasks),
            grading_breaker=grading_breaker(self._config, self._tasks),
            first_answer=FirstAnswer(known=self._progress.totals.billed_tokens > 0),
            spending=self._progress.spending,
            terminal=lambda key: self._group_of[key].finished(key),
            nothing_works=self._end_if_stopping,
        )

    async def _dispatch(self, tasks: asyncio.TaskGroup, run: RunState) -> None:
        """Start one task per missing trajectory, group by group or several groups beside each other, as the roller has
        it: each as soon as there is a slot for its agent, and the budget has room for it."""
        while (group := await self._next()) is not None:
            if await self._supplied(group):
                admitted = await unless_set(
                    self._stopping, _boxed(self._roller.admit(group.record, len(group.missing)))
                )
                if admitted is None:
                    return
                await self._start_group(group, admitted[0], tasks, run)
            if self.interrupted or self.budget_spent:
                return

    async def _start_group(
        self, group: RolloutGroup, starting: StartingGroup | None, tasks: asyncio.TaskGroup, run: RunState
    ) -> None:
        """Start what is missing of a group: beside others, if it is among those that the roller starts."""
        self._users[group.record.task.id] += 1
        if starting is None:
            try:
                await self._start_missing(group, None, tasks, run)
            finally:
                self._put_down(group)
            return

        def started(_: object) -> None:
            starting.started()
            self._starting -= 1
            self._tell_if_stuck()
            self._put_down(group)

        self._starting += 1
        tasks.create_task(self._start_missing(group, starting, tasks, run)).add_done_callback(started)

    async def _next(self) -> RolloutGroup | None:
        """The next group, None if there is none."""
        self._asks = True
        self._tell_if_stuck()
        group = await unless_set(self._stopping, self._source.next())
        self._asks = False
        if group is not None:
            self._group_of.update(dict.fromkeys(group.keys, group))
            if self._grows:
                self._progress.wanted += len(group.missing)
        return group

    async def _start_missing(
        self, group: RolloutGroup, starting: StartingGroup | None, tasks: asyncio.TaskGroup, run: RunState
    ) -> None:
        for key in group.missing:
            place = await unless_set(self._stopping, self._roller.place(group.record, starting))
            if place is None:
                return
            has_room = await self._progress.spending.start(key)
            enough = group.left_out or (self._config.early_completion and group.complete)
            if self.interrupted or enough or not has_room:
                place.release()
                self._progress.spending.end(key)
                self.budget_spent |= not (self.interrupted or enough)
                return
            if key == group.missing[0]:
                self._source.begun(group)
            self._users[key.task_id] += 1
            self._running += 1
            task = tasks.create_task(self._one(group, key, run, place))
            # Not in a `finally` of the task: one that is cancelled before its first step never gets there.
            task.add_done_callback(lambda _, key=key, place=place: self._left(group, key, place))
            group.started(key, task)

    async def _supplied(self, group: RolloutGroup) -> bool:
        """Can the group's task be worked on? Waits for that, but not longer than the run starts anything."""
        if self._supply is None:
            return True
        brought = await unless_set(self._stopping, _boxed(self._supply.bring(group.record)))
        if brought is None:
            return False
        if (why := brought[0]) is not None:
            group.given_up()
            self._progress.leave_out(group.record.task.id, why)
        return why is None

    def _tell_if_stuck(self) -> None:
        """The source learns that nothing runs, and that failures wait for a trajectory that works."""
        if self._asks and not self._running and not self._starting and self._unsettled:
            self._source.stuck()

    def _put_down(self, group: RolloutGroup) -> None:
        """One user of a task's sandboxes is done: a trajectory, or the start of all of them."""
        task_id = group.record.task.id
        self._users[task_id] -= 1
        if self._supply is not None and self._users[task_id] == 0:
            self._supply.release(group.record)

    async def _one(self, group: RolloutGroup, key: TrajectoryKey, run: RunState, place: Place) -> None:
        try:
            done = await self._roller.roll(group.record, key.sample, place)
        except BudgetSpent:
            self._cut_off += 1
            self.budget_spent = True
            return
        except RunRefused as error:
            if not run.first_answer.known:
                raise
            self._end_with(error, str(error))  # what is finished was paid for
            return
        except TaskUnusable as error:
            if not self._leaves_out:
                raise
            group.given_up()
            self._progress.leave_out(key.task_id, str(error))
            return
        except RewardFailed as error:
            await self._without_reward(error)
            return
        # A failure is recorded for good only if the infrastructure works: a control of its own says so, or a trajectory
        # that worked after it. If the engine is broken, the rerun finds no holes in its groups.
        if done.settled:
            await self._store(done)
        else:
            self._unsettled.append(done)
        if done.counters.in_baseline:
            while self._unsettled:
                await self._store(self._unsettled.pop(0))

    async def _store(self, done: Done) -> None:
        one = done.counters
        await asyncio.get_running_loop().run_in_executor(self._disk, self._writer.append_line, done.line, done.log)
        self._progress.stored(one)
        note(stored_text(one), about=str(one.key))
        group = self._group_of[one.key]
        group.stored(one)
        if self._config.early_completion and group.complete:
            self._progress.surplus_cancelled += group.cancel_surplus()
        if group.ended:
            self._progress.group_ended(group.record.task.id, group.rewards)
        self._tell_if_over(group)

    def _tell_if_over(self, group: RolloutGroup) -> None:
        """The source learns of a group's end where its last trajectory is both stored and out of the way."""
        if group.over and not group.left_out:
            self._source.ended(group)

    async def _without_reward(self, error: RewardFailed) -> None:
        """Keep a trajectory whose reward function failed, and end the run: what runs may finish first."""
        directory = self._writer.store.directory
        await asyncio.get_running_loop().run_in_executor(self._disk, keep_unrewarded, directory, error.line, error.log)
        ending = ExtensionFailed(f"{error}. {kept_where(directory)}")
        ending.__cause__ = error.__cause__
        self._end_with(ending, str(error))

    def _end_with(self, error: SweAemError, why: str) -> None:
        """End the run with an error once what runs has finished; only the first one is told."""
        if self._ends_with is None:
            self._progress.news.append(f"{why}; running trajectories may finish, and then the run ends")
            self._ends_with = error
            self.stop()

    def _give_up_unsettled(self) -> None:
        """At the end: failures for which neither a control nor a later trajectory shows that the infrastructure works
        are not stored, so that a rerun tries them again."""
        if not self._unsettled:
            return
        latest = self._unsettled[-1].counters.error
        message = (
            f"the last {len(self._unsettled)} trajectories failed on infrastructure and none succeeded after them, so "
            f"they were not stored; the latest failed with {latest}. Fix the cause and repeat the command"
        )
        if not self.interrupted:
            raise RunAborted(message)
        self._progress.news.append(message)

    def _tell_end(self) -> None:
        """Say what the end of a budget cut off, and which failures came more than once."""
        if self._cut_off:
            self._progress.news.append(
                f"{self._cut_off} trajectories still ran when the budget was used up, and are not stored"
            )
        for cause, times in self._progress.causes.times.items():
            if times > 1:
                self._progress.news.append(f"{times} times: {cause}")

    def _require_usable(self) -> None:
        """Raises `UserError` if no task could be rolled out here, nor by an earlier process."""
        left_out = self._progress.left_out
        if left_out and len(left_out) == self._tasks and not self._some_are_there:
            (task_id, why), others = next(iter(left_out.items())), len(left_out) - 1
            more = f" ({others} more tasks cannot be rolled out)" if others else ""
            raise UserError(f"{task_id}: {why}{more}")

    def _left(self, group: RolloutGroup, key: TrajectoryKey, place: Place) -> None:
        place.release()
        group.left(key)
        self._tell_if_over(group)
        self._running -= 1
        self._tell_if_stuck()
        self._put_down(group)
        self._progress.spending.end(key)
        self._progress.left(str(key))


async def _boxed(work: Awaitable[_T]) -> tuple[_T]:
    """A result that may be None, told apart from none."""
    return (await work,)


def raise_first(error: BaseExceptionGroup[BaseException]) -> NoReturn:
    """Raise the first exception inside nested groups; its notes have the others, each kind once with a count."""
    first, *others = _leaves(error)
    times = Counter(describe(one) for one in others)
    for said, count in times.items():
        alike = "the same" if said == describe(first) else said
        first.add_note(f"{count} others ended with {alike}")
    raise first from first.__cause__


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error
