"""`RolloutWorker`: the rollout side of a training run, an event loop in a thread of its own beside the trainer.

    with RolloutWorker(config, directory, model) as worker:
        worker.evaluate(...)            # before
        trainer.train()                 # asks for worker.step(1), worker.step(2), ...
        worker.evaluate(...)            # after

It holds what outlives a step: the policy, which is given the weights that a step wants, the process that parses
test logs, and the store. At `max_staleness` 0 each step is a rollout of its own. Above, one rollout lasts as long as
the run, and evaluations share its places. A step whose groups are in the store already is read, not rolled out again: a
run that was killed resumes from its last checkpoint with the very trajectories that the steps after it had.
"""

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import AsyncExitStack, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from swe_aem.core import Agent, Policy
from swe_aem.errors import SweAemError
from swe_aem.fleet.figures import FleetFigures
from swe_aem.fleet.standing import StandingFleet
from swe_aem.grading import Grader, SwebenchParser
from swe_aem.rollout import (
    GroupSource,
    Places,
    RolloutComponents,
    RolloutConfig,
    RolloutRun,
    chosen_tasks,
    components_of,
    open_agents,
    turn_renderer,
)
from swe_aem.rollout.roller import Roller
from swe_aem.runlog import tell
from swe_aem.sandbox import open_backend
from swe_aem.serve.planes import BlockingControl, ControlPlane
from swe_aem.store import Store
from swe_aem.tasks import TaskSet
from swe_aem.train.config import TrainConfig
from swe_aem.train.policies import LoadedLater, Versioned, open_policy
from swe_aem.train.rollout_hosts import open_hosts
from swe_aem.train.steps import Step
from swe_aem.train.training_groups import TrainingGroups

_T = TypeVar("_T")
_LINE_EVERY_S = 60.0
_CLOSE_S = 120.0
"""Longer than sandboxes take to close."""


@dataclass(frozen=True)
class _Here:
    """What trajectories on this host share."""

    parser: SwebenchParser
    agents: Callable[[RolloutConfig], Agent]


@dataclass(frozen=True)
class _Live:
    """What is open while the worker's thread runs."""

    policy: Policy
    versioned: Versioned
    here: _Here | None
    """None where trajectories run on the hosts of a cluster."""
    hosts: StandingFleet | None
    """Those hosts."""


class RolloutWorker:
    """Rolls out steps and evaluations. Use as a context manager, on the first process only."""

    def __init__(
        self,
        config: TrainConfig,
        directory: Path,
        model: Callable[[], Any],
        *,
        patient: bool = False,
        first: Mapping[str, RolloutConfig] | None = None,
    ) -> None:
        """`model` makes the worker's own copy, and is not called with servers; `directory` gets `rollouts/` and the
        stores of evaluations. `patient`: servers that do not answer at first are waited for. `first` are evaluations
        before training, by name, that begin at once where the policy has the weights for them: `evaluate` waits for
        them."""
        self._config = config
        self._directory = directory
        self._model = model
        self._patient = patient
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rollouts", daemon=True)
        self._lifetimes = AsyncExitStack()
        self._locks = ExitStack()
        self._turns: set[asyncio.Task[Any]] = set()
        self._tasks = chosen_tasks(config.rollout)
        self._backend = None if config.rollout.cluster else open_backend(config.rollout.sandbox)
        self._places = Places(config.rollout.at_once)
        self._rollout = self._run_of(config.rollout, self._tasks, directory / "rollouts")
        self._groups = TrainingGroups(config, self._tasks.records, directory, self._rollout)
        self._lasting: asyncio.Task[None] | None = None
        """The rollout that does not end with a step."""
        self._running: dict[RolloutRun, asyncio.Task[Any]] = {}
        self._closing = asyncio.Event()
        self._first = dict(first or {})
        self._evaluating_first: asyncio.Task[None] | None = None
        self._live: _Live | None = None
        self._figures = FleetFigures()
        """Those of the hosts of a cluster when the last step was taken."""

    def __enter__(self) -> "RolloutWorker":
        for note in self._tasks.notes:
            tell(note)
        try:
            self._locks.enter_context(self._rollout)
            self._thread.start()
            self._wait(self._submit(self._open()))
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            if self._thread.is_alive():
                self._submit(self._close()).result(2 * _CLOSE_S)
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join(_CLOSE_S)
        finally:
            self._locks.close()

    def begin_closing(self) -> None:
        """End what runs, and begin nothing more, also while this is still being opened. Any thread may call this."""
        self._loop.call_soon_threadsafe(self._end_running)

    def _end_running(self) -> None:
        self._closing.set()
        for rollout in self._running:
            rollout.cancel()

    @property
    def control(self) -> ControlPlane:
        """The control plane of the servers that sample, for the thread that trains."""
        plane: Any = self._opened.versioned
        return BlockingControl(plane, lambda work: self._wait(self._submit(work)))

    def load(self, weights: Mapping[str, Any], version: int) -> None:
        """Sample with the weights of a state dict from now on, where the policy is in this process; they are read when
        this returns."""
        policy: Any = self._opened.policy
        self._wait(self._submit(policy.update(weights, version)))

    def wants_weights(self, number: int) -> bool:
        """Does the step need weights that the policy does not have? No if nothing is still to be rolled out."""
        lacks = self._wait(self._submit(self._groups.lack(number)))
        return lacks and self._opened.versioned.version != number - 1

    def step(self, number: int) -> Step:
        """The step, as `StepSource.step` says."""
        lacks = self._wait(self._submit(self._groups.lack(number)))
        return self._wait(self._submit(self._counted(self._step(number, lacks=lacks))))

    def evaluation_wants_weights(self, rollouts: Mapping[str, RolloutConfig], version: int) -> bool:
        """Does one of these evaluations, by name, need the weights of that version, and does the policy have others? No
        if the stores have all that they roll out."""
        return self._opened.versioned.version != version and any(
            self._evaluation_lacks(config, name) for name, config in rollouts.items()
        )

    def evaluate(self, config: RolloutConfig, version: int, name: str) -> Path:
        """Roll out a whole task set with the policy's weights, of `version` steps, into `heldout/NAME`; returns that
        directory. A rerun resumes where it was, and does nothing where all is there."""
        directory = self._heldout(name)
        if self._evaluating_first is not None and name in self._first:
            self._wait(self._submit(_ended(self._evaluating_first)))
            return directory
        self._wait(self._submit(self._evaluate(config, chosen_tasks(config), directory, version)))
        return directory

    def _heldout(self, name: str) -> Path:
        return self._directory / "heldout" / name

    def _evaluation_lacks(self, config: RolloutConfig, name: str) -> bool:
        tasks = chosen_tasks(config)
        with self._run_of(config, tasks, self._heldout(name)) as rollout:
            return any(rollout.group(record).missing for record in tasks)

    @property
    def _opened(self) -> _Live:
        if self._live is None:
            raise RuntimeError("a RolloutWorker works only inside `with RolloutWorker(...) as worker`")
        return self._live

    def _submit(self, work: Coroutine[Any, Any, _T]) -> "Future[_T]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _wait(self, future: "Future[_T]") -> _T:
        """The result. A Ctrl-C is raised here, and reaches whoever closes the worker."""
        return future.result()

    async def _open(self) -> None:
        rollout = self._config.rollout
        if self._backend is not None:
            await self._lifetimes.enter_async_context(self._backend)
        opened = open_policy(self._config, self._model, patient=self._patient)
        policy, versioned = await self._lifetimes.enter_async_context(opened)
        if self._backend is None:
            opening = open_hosts(rollout, self._directory / "rollouts", await self._loaded(policy))
            hosts = await self._lifetimes.enter_async_context(opening)
            self._live = _Live(policy, versioned, None, hosts)
        else:
            parser = await self._lifetimes.enter_async_context(SwebenchParser())
            agents = await self._lifetimes.enter_async_context(open_agents(rollout, turn_renderer(rollout)))
            self._live = _Live(policy, versioned, _Here(parser, agents), None)
        if self._first and versioned.version == 0 and not self._closing.is_set():
            self._evaluating_first = asyncio.create_task(self._evaluate_first())
            self._turns.add(self._evaluating_first)
        await self._loaded(policy)

    async def _loaded(self, policy: Policy) -> Policy:
        """The policy itself, once it can sample; raises `Interrupted` if this is closed before."""
        if not isinstance(policy, LoadedLater):
            return policy
        loading, closing = asyncio.ensure_future(policy.loaded()), asyncio.create_task(self._closing.wait())
        try:
            await asyncio.wait({loading, closing}, return_when=asyncio.FIRST_COMPLETED)
            if not loading.done():
                raise Interrupted("the model was not loaded")
            return loading.result()
        finally:
            loading.cancel()
            closing.cancel()

    async def _close(self) -> None:
        """End what runs; its sandboxes are closed, and what was finished is stored."""
        self._end_running()
        if ending := {*self._running.values(), *self._turns}:
            await asyncio.wait(ending, timeout=_CLOSE_S)
        for task in (self._lasting, self._evaluating_first):
            if task is not None and task.done() and not task.cancelled():
                task.exception()  # nobody is left whom it could concern
        await self._lifetimes.aclose()

    def _run_of(self, config: RolloutConfig, tasks: TaskSet, directory: Path) -> RolloutRun:
        return RolloutRun(
            config,
            tasks,
            Store(directory),
            backend=self._backend,
            open_components=lambda config, tasks: nullcontext(self._components(config, tasks)),
            places=self._places,
            elsewhere=self._roller_on_hosts if self._backend is None else None,
            line_every_s=_LINE_EVERY_S,
            brief=True,
        )

    def _components(self, config: RolloutConfig, tasks: TaskSet) -> RolloutComponents:
        live, here = self._opened, self._opened.here
        assert here is not None
        return components_of(
            here.agents(config),
            tasks,
            lambda record, sample: live.policy,
            lambda gate: Grader(gate, here.parser, twins=config.twins),
        )

    def _roller_on_hosts(self, config: RolloutConfig, tasks: TaskSet, directory: Path, run: str) -> Roller:
        hosts = self._opened.hosts
        assert hosts is not None
        return hosts.roller(config, tasks, directory, run)

    async def _counted(self, stepping: Coroutine[Any, Any, Step]) -> Step:
        """A step, with how the hosts fared since the one before."""
        step = await stepping
        if self._opened.hosts is None:
            return step
        before, self._figures = self._figures, self._opened.hosts.fleet.figures
        return step.model_copy(update={"fleet": self._figures.since(before)})

    async def _step(self, number: int, *, lacks: bool) -> Step:
        turn = asyncio.current_task()
        assert turn is not None
        self._turns.add(turn)
        turn.add_done_callback(self._turns.discard)
        self._require_open(f"step {number}")
        self._groups.trained(number - 1)
        if self._config.max_staleness and not self._groups.replays(number):
            return await self._beside_the_rollout(self._groups.take(number))
        if lacks:
            await self._roll_out(self._rollout, self._groups, f"step {number}")
        elif not self._groups.replays(number):
            await self._groups.admit()
        return await self._groups.take(number)

    async def _beside_the_rollout(self, taking: Coroutine[Any, Any, Step]) -> Step:
        """The step, beside the rollout that lasts as long as the run; raises what ends that rollout."""
        step = asyncio.create_task(taking)
        try:
            while not step.done():
                if self._lasting is not None and self._lasting.done():
                    self._lasting.result()
                if self._lasting is None or self._lasting.done():
                    rolling_out = self._roll_out(self._rollout, self._groups, "rolling out")
                    self._lasting = asyncio.create_task(rolling_out)
                await asyncio.wait({step, self._lasting}, return_when=asyncio.FIRST_COMPLETED)
            return step.result()
        finally:
            step.cancel()

    async def _evaluate_first(self) -> None:
        for name, config in self._first.items():
            tasks = await asyncio.to_thread(chosen_tasks, config)
            await self._evaluate(config, tasks, self._heldout(name), 0)

    async def _evaluate(self, config: RolloutConfig, tasks: TaskSet, directory: Path, version: int) -> None:
        with self._run_of(config, tasks, directory) as rollout:
            if any(rollout.group(record).missing for record in tasks):
                self._groups.trained(version)
                await self._roll_out(rollout, None, directory.name)

    async def _roll_out(self, rollout: RolloutRun, groups: GroupSource | None, what: str) -> None:
        """Fill the store with what the groups lack, by default with a group per task; raises what `RolloutRun.run`
        does."""
        self._require_open(what)  # it may have been closed while the groups were chosen
        task = asyncio.current_task()
        assert task is not None
        self._running[rollout] = task
        try:
            result = await rollout.run(groups)
        finally:
            del self._running[rollout]
        if result.interrupted:
            raise Interrupted(f"{what} was interrupted; finished trajectories are kept")

    def _require_open(self, what: str) -> None:
        if self._closing.is_set():
            raise Interrupted(f"{what} was not begun")


class Interrupted(SweAemError):
    """The worker was closed while something was rolled out."""


async def _ended(task: "asyncio.Task[None]") -> None:
    """Wait for it; raises what it raised."""
    await asyncio.shield(task)
