"""`Session`: the rollout side of a training run, an event loop in a thread of its own beside the trainer.

    with Session(config, directory, model) as session:
        session.evaluate(...)           # before
        trainer.train()                 # asks for session.step(1), step(2), ...
        session.evaluate(...)           # after

It holds what outlives a step: the policy, which takes over the trained weights before a step, the grading room's
parser, and the store. A step whose groups are in the store already is read, not rolled out again: a run
that was killed goes on from its last checkpoint with the very trajectories that the steps after it had.
"""

import asyncio
import sys
import threading
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any, TypeVar

from swe_aem.core import SandboxBackend, TrajectoryKey
from swe_aem.errors import SweAemError
from swe_aem.grading import Grader
from swe_aem.grading.parser import SwebenchParser
from swe_aem.rollout.board import Board
from swe_aem.rollout.config import RolloutConfig
from swe_aem.rollout.crew import Crew
from swe_aem.rollout.group import Group as OpenGroup
from swe_aem.rollout.group import group_of
from swe_aem.rollout.manifest import claim
from swe_aem.rollout.orchestrator import Orchestrator
from swe_aem.rollout.progress import show
from swe_aem.rollout.wiring import chosen_tasks, crew_of, open_agents, turn_renderer
from swe_aem.sandbox import open_backend
from swe_aem.store import Store, StoreWriter, Totals, write_summary
from swe_aem.tasks import TaskSet
from swe_aem.train.config import TrainConfig
from swe_aem.train.policies import open_policy
from swe_aem.train.schedule import visits
from swe_aem.train.steps import Group, Step, choose

_T = TypeVar("_T")
_LINE_EVERY_S = 60.0
_CLOSE_S = 120.0
"""Longer than sandboxes take to close."""


class Session:
    """Rolls out steps and evaluations. Use as a context manager, on the first process only."""

    def __init__(self, config: TrainConfig, directory: Path, model: Any, name: str) -> None:
        """`model` is the session's own copy, or with servers the one that is trained; `directory` gets `rollouts/` and
        the stores of evaluations."""
        self._config = config
        self._directory = directory
        self._model = model
        self._name = name
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rollouts", daemon=True)
        self._lifetimes = AsyncExitStack()
        self._locks = ExitStack()
        self._scheduled: dict[int, Future[Step]] = {}
        self._tasks = chosen_tasks(config.rollout)
        self._backend: SandboxBackend = open_backend(config.rollout.sandbox)
        self._closing = False
        self._running: dict[Orchestrator, asyncio.Task[Any]] = {}

    def __enter__(self) -> "Session":
        for note in self._tasks.notes:
            print(note, file=sys.stderr)
        try:
            self._begin()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def _begin(self) -> None:
        self._writer = self._locks.enter_context(Store(self._directory / "rollouts").writer())
        stored = {task_id for task_id, _ in self._writer.entries}
        manifest = claim(self._writer.store.directory, self._config.rollout, self._tasks.records, stored_tasks=stored)
        self._run_id = manifest.run
        self._totals = Totals()
        for trajectory in self._writer.store.trajectories():
            self._totals.add(trajectory)
        self._thread.start()
        self._wait(self._submit(self._open()))

    def __exit__(self, *exc: object) -> None:
        try:
            if self._thread.is_alive():
                self._submit(self._close()).result(2 * _CLOSE_S)
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join(_CLOSE_S)
        finally:
            self._locks.close()

    def step(self, number: int, weights: Mapping[str, Any]) -> Step:
        """See `StepSource.step`. Up to `ahead` further steps are begun, each with the weights that are there then."""
        self._wait(self._submit(self._updates.update(weights, number - 1)))
        for wanted in range(number, min(number + self._config.ahead, self._config.steps) + 1):
            if wanted not in self._scheduled:
                self._scheduled[wanted] = self._submit(self._in_turn(wanted))
        return self._wait(self._scheduled.pop(number))

    def evaluate(self, config: RolloutConfig, weights: Mapping[str, Any], version: int, name: str) -> Path:
        """Roll out a whole task set with these weights into `heldout/NAME`; returns that directory. A rerun goes on
        where it was, and does nothing where all is there."""
        directory = self._directory / "heldout" / name
        tasks = chosen_tasks(config)
        self._wait(self._submit(self._updates.update(weights, version)))
        self._wait(self._submit(self._evaluate(config, tasks, directory)))
        return directory

    def _submit(self, work: Coroutine[Any, Any, _T]) -> "Future[_T]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _wait(self, future: "Future[_T]") -> _T:
        """The result. A Ctrl-C gets here, and goes on to whoever closes the session."""
        return future.result()

    async def _open(self) -> None:
        self._order = asyncio.Lock()
        opened = open_policy(self._config, self._directory, self._model, self._name)
        self._policy, self._updates = await self._lifetimes.enter_async_context(opened)
        self._parser = await self._lifetimes.enter_async_context(SwebenchParser())
        rollout = self._config.rollout
        self._agents = await self._lifetimes.enter_async_context(open_agents(rollout, turn_renderer(rollout)))

    async def _close(self) -> None:
        """End what runs; its sandboxes are closed, and what was finished is stored."""
        self._closing = True
        for orchestrator in self._running:
            orchestrator.cancel()
        if self._running:
            await asyncio.wait(self._running.values(), timeout=_CLOSE_S)
        await self._lifetimes.aclose()

    def _crew(self, config: RolloutConfig, tasks: TaskSet) -> Crew:
        policies, grader = lambda record, sample: self._policy, lambda gate: Grader(gate, self._parser)
        return crew_of(self._agents(config), tasks, policies, grader)

    async def _in_turn(self, number: int) -> Step:
        """Step after step, also where several are scheduled."""
        async with self._order:
            if self._closing:
                raise Interrupted(f"step {number} was not begun")
            return await self._step(number)

    async def _step(self, number: int) -> Step:
        config, rollout = self._config, self._config.rollout
        chosen = visits(self._tasks.records, step=number, per_step=config.rolled_out_groups, seed=config.seed)
        groups = [group_of(rollout, visit.record, self._writer.entries, visit=visit.number) for visit in chosen]
        missing = sum(len(group.missing) for group in groups)
        started_s = time.monotonic()
        if missing:
            await self._roll_out(rollout, self._tasks, groups, self._writer, f"step {number}")
        rollout_s = time.monotonic() - started_s if missing else 0.0
        stored = await asyncio.to_thread(lambda: [self._load(group) for group in groups])
        kept, rejected = choose(stored, config.groups_per_step, rollout.group_size)
        return Step(number=number, groups=kept, rejected=rejected, rollout_s=rollout_s)

    def _load(self, group: OpenGroup) -> Group:
        keys = [TrajectoryKey(group.record.task.id, sample) for sample in group.samples]
        return tuple(self._writer.store.load(self._writer.entries[key]) for key in keys if key in self._writer.entries)

    async def _evaluate(self, config: RolloutConfig, tasks: TaskSet, directory: Path) -> None:
        with Store(directory).writer() as writer:
            claim(directory, config, tasks.records, stored_tasks={task_id for task_id, _ in writer.entries})
            groups = [group_of(config, record, writer.entries) for record in tasks]
            if any(group.missing for group in groups):
                await self._roll_out(config, tasks, groups, writer, directory.name)

    async def _roll_out(
        self, config: RolloutConfig, tasks: TaskSet, groups: list[OpenGroup], writer: StoreWriter, what: str
    ) -> None:
        """Fill the store with what the groups lack; raises what `Orchestrator.run` does."""
        of_run = writer is self._writer
        totals = self._totals if of_run else Totals()
        wanted = totals.trajectories + sum(len(group.missing) for group in groups)
        board = Board(totals, wanted=wanted, group_size=config.group_size, tell_groups=False)
        crew = self._crew(config, tasks)
        orchestrator = Orchestrator(config, groups, crew, self._backend, writer, board, run=self._run_id)
        reporter = asyncio.create_task(show(board, every_s=_LINE_EVERY_S, live=False))
        task = asyncio.current_task()
        assert task is not None
        self._running[orchestrator] = task
        try:
            await orchestrator.run()
        finally:
            del self._running[orchestrator]
            reporter.cancel()
            await asyncio.wait({reporter})
            write_summary(writer.store.directory, board.summary())
        if orchestrator.interrupted:
            raise Interrupted(f"{what} was interrupted; finished trajectories are kept")


class Interrupted(SweAemError):
    """The session was closed while something was rolled out."""
