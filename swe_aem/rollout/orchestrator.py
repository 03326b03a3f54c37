"""`Orchestrator`: takes every sample of some groups that the store lacks to a terminal record in it, each exactly once.

    dispatch ──place for an agent──> roll (start, prepare, agent, patch) ──place for grading──> verdict ──> store

Three limits: agents that live, sandboxes that start, evaluation scripts that run. An agent's place is handed on only
when its trajectory has got a place for grading, so at most 2 x concurrency + grading sandboxes exist.

An unexpected exception in one trajectory is a bug: it cancels the others and leaves `run`. Nothing that ends this
process loses or doubles a record, because a record is durable before it counts and a rerun starts from what is in the
store.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from swe_aem.core import Deadline, SandboxBackend, Trajectory, TrajectoryKey, bounded
from swe_aem.core.outcomes import is_infrastructure_failure
from swe_aem.errors import InfrastructureError
from swe_aem.rollout.board import Board
from swe_aem.rollout.breaker import Breaker, RunAborted, describe
from swe_aem.rollout.config import RolloutConfig
from swe_aem.rollout.crew import Crew, Grader
from swe_aem.rollout.gate import Gate
from swe_aem.rollout.group import Group
from swe_aem.rollout.roll import Desk, Roll
from swe_aem.store import StoreWriter

_PRUNE_LIMIT_S = 60.0


class Orchestrator:
    """One process's work on one store. Use once."""

    def __init__(
        self,
        config: RolloutConfig,
        groups: Sequence[Group],
        crew: Crew,
        backend: SandboxBackend,
        writer: StoreWriter,
        board: Board,
        *,
        run: str,
    ) -> None:
        limits = config.scheduling
        self._config = config
        self._crew = crew
        self._backend = backend
        self._writer = writer
        self._board = board
        self._run_id = run
        self._gate = Gate(backend, starting=limits.starting, start_limit_s=limits.start_limit_s)
        self._agents = asyncio.Semaphore(limits.concurrency)
        self._grading = asyncio.Semaphore(limits.grading)
        self._groups = tuple(groups)
        self._group_of = {
            TrajectoryKey(group.record.task.id, sample): group for group in groups for sample in group.samples
        }
        self._unsettled: list[Trajectory] = []
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._main: asyncio.Task[None] | None = None
        self._drain: asyncio.TimerHandle | None = None
        self._cancelled = False
        self.interrupted = False
        """Was the run ended by `stop` or `cancel`?"""

    async def run(self) -> None:
        """Return when every trajectory is in the store, or the run was interrupted.

        Raises `RunAborted` if too many attempts fail in a row or nothing works after the last failures, `UserError` for
        what a room refuses, and whatever bug surfaces in a trajectory.
        """
        self._main = asyncio.create_task(self._roll_all())
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

    def stop(self) -> None:
        """Start nothing more and let what runs finish, but no longer than the drain limit."""
        if not self.interrupted:
            self.interrupted = True
            self._drain = asyncio.get_running_loop().call_later(self._config.scheduling.drain_limit_s, self.cancel)

    def cancel(self) -> None:
        """Cancel everything that runs; sandboxes are closed before `run` returns. A second call changes nothing."""
        self.interrupted = True
        # Once only: a second cancellation would break off the closing of sandboxes that the first one began.
        if self._main is not None and not self._cancelled:
            self._cancelled = True
            self._main.cancel()

    async def _roll_all(self) -> None:
        await self._prune()
        try:
            async with self._crew.grader(self._gate) as grader:
                desk = self._desk(grader)
                try:
                    async with asyncio.TaskGroup() as tasks:
                        await self._dispatch(tasks, desk)
                except BaseExceptionGroup as group:
                    raise _first(group) from group
            self._give_up_unsettled()
        finally:
            self._disk.shutdown()  # a record that is being written gets written
            await self._prune()

    def _desk(self, grader: Grader) -> Desk:
        limit = self._config.scheduling.consecutive_failures
        return Desk(
            config=self._config,
            run=self._run_id,
            crew=self._crew,
            gate=self._gate,
            grader=grader,
            grading=self._grading,
            agents=Breaker("run the agent", limit),
            grades=Breaker("grade a patch", limit),
            board=self._board,
        )

    async def _dispatch(self, tasks: asyncio.TaskGroup, desk: Desk) -> None:
        """Start one task per missing trajectory, group by group, each as soon as there is a place for its agent."""
        for group in self._groups:
            for sample in group.missing:
                key = TrajectoryKey(group.record.task.id, sample)
                await self._agents.acquire()
                place = _Place(self._agents)
                if self.interrupted or (self._config.early_completion and group.complete):
                    place.give_up()
                    break
                task = tasks.create_task(self._one(group, sample, desk, place))
                # Not in a `finally` of the task: one that is cancelled before its first step never gets there.
                task.add_done_callback(lambda _, key=key, place=place: self._left(key, place))
                group.started(sample, task)
            if self.interrupted:
                return

    async def _one(self, group: Group, sample: int, desk: Desk, place: "_Place") -> None:
        trajectory = await Roll(desk, group.record, sample, place.give_up).run()
        group.finished(sample)
        self._unsettled.append(trajectory)
        # A failure of ours is recorded for good only once something has worked after it: if the engine is broken, the
        # breaker ends the run first, and the rerun finds no holes in its groups.
        if not is_infrastructure_failure(trajectory):
            await self._settle()

    async def _settle(self) -> None:
        """Store every terminal trajectory that waits for it."""
        while self._unsettled:
            trajectory = self._unsettled.pop(0)
            await asyncio.get_running_loop().run_in_executor(self._disk, self._writer.append, trajectory)
            self._board.stored(trajectory)
            group = self._group_of[trajectory.key]
            group.stored(trajectory)
            if self._config.early_completion and group.complete:
                self._board.surplus_cancelled += group.cancel_surplus()
            if group.ended:
                self._board.group_ended(group.record.task.id, group.rewards)

    def _give_up_unsettled(self) -> None:
        """At the end: failures after which nothing has worked are not stored, so that a rerun tries them again."""
        if not self._unsettled:
            return
        message = (
            f"nothing has worked since the last failures of our side, so {len(self._unsettled)} trajectories are not "
            f"stored; the latest failed with {self._unsettled[-1].error}. Repair the cause and repeat the command"
        )
        if not self.interrupted:
            raise RunAborted(message)
        self._board.news.append(message)

    def _left(self, key: TrajectoryKey, place: "_Place") -> None:
        place.give_up()
        self._board.left(str(key))

    async def _prune(self) -> None:
        """Remove what dead runs left. A failure is news and no more: no trajectory depends on it."""
        try:
            async with bounded("pruning sandboxes", Deadline.after(_PRUNE_LIMIT_S)):
                await self._backend.prune()
        except InfrastructureError as error:
            self._board.news.append(f"pruning sandboxes failed: {describe(error)}; run `swe-aem sandbox prune`")


class _Place:
    """One place of a semaphore, given back once."""

    def __init__(self, semaphore: asyncio.Semaphore) -> None:
        self._semaphore: asyncio.Semaphore | None = semaphore

    def give_up(self) -> None:
        if self._semaphore is not None:
            self._semaphore.release()
            self._semaphore = None


def _first(error: BaseException) -> BaseException:
    """The first exception inside nested groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
