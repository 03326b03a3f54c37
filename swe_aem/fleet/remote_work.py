"""`RemoteWork`: jobs on the hosts of a cluster, each on as many hosts as it takes."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swe_aem.core import TaskRecord, TrajectoryKey
from swe_aem.fleet.engine import Engine, NodeDrained, NodeLost
from swe_aem.fleet.events import RunEvents
from swe_aem.fleet.fleet import Fleet, FleetPlace
from swe_aem.fleet.host_work import OpenHostWork
from swe_aem.fleet.messages import Identity, Job, Opening, run_name
from swe_aem.fleet.starting_groups import FleetGroup
from swe_aem.rollout import RolloutConfig
from swe_aem.rollout.breaker import describe
from swe_aem.rollout.broken_tasks import FILE as BROKEN_TASKS
from swe_aem.rollout.budget import backoff_s
from swe_aem.rollout.failures import Part
from swe_aem.rollout.roller import Place, RunState, StartingGroup
from swe_aem.store import failed_attempt
from swe_aem.tasks import TaskSet

if TYPE_CHECKING:
    from swe_aem.fleet.standing import StandingFleet


@dataclass(frozen=True)
class Piece:
    """Work on one task, until it has a result."""

    record: TaskRecord
    sample: int = 0
    payload: Any = None
    limit_s: float = math.inf
    """Seconds that all attempts together may take."""
    failed: Callable[[Any], bool] = lambda result: False
    """Is a result only that the infrastructure failed?"""


class AllLost(Exception):
    """Every attempt at some work ended because its host was lost."""

    def __init__(self, failures: list[str]) -> None:
        super().__init__("; ".join(failures))
        self.failures = failures
        """Each attempt as one phrase."""


class RemoteWork:
    """Has work done by agents, as many jobs at once as those have places.

    A host that is lost uses up an attempt of each job there; one that is drained does not. What a host could not finish
    is tried once more on another one, so that a broken host costs no work.
    """

    def __init__(
        self,
        work: OpenHostWork,
        config: RolloutConfig,
        tasks: TaskSet,
        directory: Path,
        engine: Engine,
        *,
        run: str,
        part: Part,
        settings: Any = None,
        name: str = "",
        standing: "StandingFleet | None" = None,
    ) -> None:
        """`directory` keeps what is known of broken tasks; `run` is the run's id. `part` is whose attempt is lost with
        a host. `settings` are for `work`. `name` is what a person calls the run, if that is not its directory.
        `standing` are agents that are there already, and do its kind of work."""
        self._work, self._config, self._tasks, self._directory = work, config, tasks, directory
        self._engine, self._run_id, self._settings = engine, run, settings
        self._part: Part = part
        self._name = name or str(directory)
        self._standing = standing
        self._opened: tuple[RunState, Fleet] | None = None
        self._rollout: Callable[[], Any] = lambda: None

    @asynccontextmanager
    async def open(self, run: RunState) -> AsyncIterator[None]:
        """Agents on the hosts of the cluster; once."""
        assert self._config.cluster is not None
        events = RunEvents(run, self._directory)
        if self._standing is not None:
            with self._standing.entered(events, self._config, self._tasks, self._run_id) as self._rollout:
                self._opened = run, self._standing.fleet
                try:
                    yield
                finally:
                    self._opened = None
            return
        async with self._engine.open():
            opening = await asyncio.to_thread(self._opening)
            async with Fleet(self._engine, self._config.cluster, opening, run, events).open() as fleet:
                self._opened = run, fleet
                try:
                    yield
                finally:
                    self._opened = None

    async def admit(self, record: TaskRecord, count: int) -> FleetGroup:
        """Wait until a group may be started; see `Fleet.admit`."""
        return await self.fleet.admit(record, count)

    async def place(self, record: TaskRecord, group: StartingGroup | None = None) -> FleetPlace:
        """Wait for a place on some host; see `Fleet.place`."""
        assert group is None or isinstance(group, FleetGroup)
        return await self.fleet.place(record, group)

    async def do(self, piece: Piece, place: Place) -> Any:
        """The result of a piece of work; raises `AllLost`, and what the work does."""
        run, fleet = self._open
        assert isinstance(place, FleetPlace)
        loop, record, key = asyncio.get_running_loop(), piece.record, TrajectoryKey(piece.record.task.id, piece.sample)
        ends_s = loop.time() + piece.limit_s
        earlier: list[str] = []
        tried: frozenset[str] = frozenset()
        most = self._config.scheduling.max_attempts
        try:
            while True:

                def job(token: int, given: tuple[str, ...] = tuple(earlier)) -> Job:
                    payload = piece.payload if self._standing is None else self._rollout()
                    return Job(token, record, piece.sample, given, max(0.0, ends_s - loop.time()), payload)

                try:
                    finished, attempt = await fleet.do(place, key, job)
                except NodeDrained as error:
                    run.watcher.tell(f"{key} moves: {error}")
                except NodeLost as error:
                    earlier.append(f"{self._part}: {describe(error)}")
                    self._tell_lost(run, key, len(earlier), error)
                    if len(earlier) >= most or loop.time() >= ends_s:
                        raise AllLost(earlier) from error
                else:
                    if finished.error is not None:
                        raise finished.error
                    tried |= {place.node.id}
                    failed = piece.failed(finished.result) and bool(attempt.failures)
                    if not (failed and len(tried) < most and fleet.has_other(tried)):
                        return finished.result
                    earlier += attempt.failures
                place.release()
                await asyncio.sleep(backoff_s(self._config.scheduling, 1))
                place = await fleet.place_again(record, place, tried)
        finally:
            place.release()

    @property
    def fleet(self) -> Fleet:
        """The hosts, while this is open."""
        return self._open[1]

    @property
    def _open(self) -> tuple[RunState, Fleet]:
        if self._opened is None:
            raise RuntimeError("work is done on hosts only inside `async with work.open(...)`")
        return self._opened

    def _opening(self) -> Opening:
        known = self._directory / BROKEN_TASKS
        return Opening(
            work=self._work,
            config=self._config,
            tasks=TaskSet(name=self._tasks.name, records=(), packages=self._tasks.packages),
            run=self._run_id,
            directory=str(Path.cwd()),
            identity=Identity.own(),
            broken_tasks=known.read_bytes() if known.exists() else b"{}",
            settings=self._settings,
            name=run_name(self._name),
        )

    def _tell_lost(self, run: RunState, key: TrajectoryKey, number: int, error: NodeLost) -> None:
        run.spending.again(key)
        run.watcher.failed(
            failed_attempt(
                error,
                task_id=key.task_id,
                sample=key.sample,
                attempt=number,
                part=self._part,
                phase=self._part,
                blame="infrastructure",
            )
        )
