"""`StandingFleet`: agents that outlast single rollouts, and roll out for several at a time: those of a training run.

async with fleet.open():
    RolloutRun(..., elsewhere=fleet.roller)        # a step, and an evaluation beside it
"""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from swe_aem.core import TrajectoryKey
from swe_aem.fleet.access import PolicyAccess
from swe_aem.fleet.engine import Engine, Host
from swe_aem.fleet.events import RunEvents
from swe_aem.fleet.fleet import Fleet
from swe_aem.fleet.host_rollouts import open_host_rollouts
from swe_aem.fleet.host_work import OpenHostWork
from swe_aem.fleet.messages import Event, Identity, Opening, Report, SharingRollout, run_name
from swe_aem.fleet.node import Node
from swe_aem.fleet.weights import FleetWeights
from swe_aem.rollout import BudgetConfig, RolloutConfig
from swe_aem.rollout.breaker import Breaker, FirstAnswer
from swe_aem.rollout.broken_tasks import FILE as BROKEN_TASKS
from swe_aem.rollout.roller import Roller, RunState
from swe_aem.rollout.spending import Spending
from swe_aem.runlog import tell
from swe_aem.store import FailedAttempt
from swe_aem.tasks import TaskSet

AccessOf = Callable[[Host], Awaitable[PolicyAccess]]
"""How a host reaches the policy."""


class StandingFleet:
    """The agents, and the rollouts that use them now."""

    def __init__(
        self,
        engine: Engine,
        config: RolloutConfig,
        directory: Path,
        access: AccessOf,
        *,
        weights: FleetWeights | None = None,
        work: OpenHostWork = open_host_rollouts,
    ) -> None:
        """`config` is of rollouts that use the same sandboxes, agents and policy; `directory` keeps what is known of
        broken tasks."""
        assert config.cluster is not None
        self._engine = engine
        self._events = _EventsOfAll()
        run = RunState(
            watcher=_Teller(),
            agent_breaker=Breaker("run the agent", config.consecutive_failures, tasks=1),
            grading_breaker=Breaker("grade", config.consecutive_failures, tasks=1),
            first_answer=FirstAnswer(known=True),
            spending=Spending(BudgetConfig()),
        )
        known = directory / BROKEN_TASKS
        opening = Opening(
            work=work,
            config=config,
            tasks=TaskSet(name="", records=()),
            run="",
            directory=str(Path.cwd()),
            identity=Identity.own(),
            broken_tasks=known.read_bytes() if known.exists() else b"{}",
            name=run_name(str(directory)),
        )
        self.fleet = Fleet(
            engine,
            config.cluster,
            opening,
            run,
            self._events,
            settings_of=access,
            weights=weights,
            wanted=self._events.any,
        )
        self._numbers = itertools.count(1)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Agents on the hosts of the cluster; raises what `Fleet.open` does."""
        async with self._engine.open(), self.fleet.open():
            yield

    def roller(self, config: RolloutConfig, tasks: TaskSet, directory: Path, run: str) -> Roller:
        """What rolls out for one run, as `rollout.run.MakeRoller` says."""
        from swe_aem.fleet.roller import RemoteRoller

        return RemoteRoller(config, tasks, directory, self._engine, run=run, standing=self)

    @contextmanager
    def entered(
        self, events: RunEvents, config: RolloutConfig, tasks: TaskSet, run: str
    ) -> Iterator[Callable[[], SharingRollout]]:
        """A rollout uses the agents for the length of the block; yields what names it in its jobs."""
        number = next(self._numbers)
        bare = TaskSet(name=tasks.name, records=(), packages=tasks.packages)

        def named() -> SharingRollout:
            return SharingRollout(number, config, bare, run, self._events.live)

        with self._events.passed_to(number, events):
            yield named


class _Teller:
    """Tells what concerns no single rollout."""

    def phase(self, id: str, name: str) -> None:
        """Nobody is told: trajectories belong to single rollouts."""

    def phase_ended(self, key: TrajectoryKey, attempt: int, name: str, began_s: float, seconds: float) -> None:
        """Nobody is told: trajectories belong to single rollouts."""

    def failed(self, failed: FailedAttempt) -> None:
        """Nobody is told: trajectories belong to single rollouts."""

    def tell(self, text: str) -> None:
        """Something that a person should know."""
        tell(text)


class _EventsOfAll:
    """Passes the events of each rollout to it, while it is open."""

    def __init__(self) -> None:
        self._rollouts: dict[int, RunEvents] = {}

    @property
    def live(self) -> frozenset[int]:
        """The rollouts that are open."""
        return frozenset(self._rollouts)

    def any(self) -> bool:
        """Is one open?"""
        return bool(self._rollouts)

    @contextmanager
    def passed_to(self, number: int, events: RunEvents) -> Iterator[None]:
        """For the length of the block."""
        self._rollouts[number] = events
        try:
            yield
        finally:
            del self._rollouts[number]

    def take(self, event: Event, node: Node, nodes: tuple[Node, ...], report: Report, now_s: float) -> None:
        """Pass one on. Raises what ends the training run."""
        if (events := self._rollouts.get(event.rollout)) is not None:
            events.take(event, node, nodes, report, now_s)
        elif event.kind == "tell":
            tell(f"{node.label}: {event.arguments[0]}")

    def broken_tasks(self, known: bytes) -> None:
        """Every rollout that is open learns what an agent knows of broken tasks."""
        for events in self._rollouts.values():
            events.broken_tasks(known)
