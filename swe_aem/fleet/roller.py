"""`RemoteRoller`: a `Roller` whose sandboxes are on the hosts of a cluster."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from swe_aem.core import Outcome, TaskRecord, Trajectory, TrajectoryKey
from swe_aem.fleet.engine import Engine, NodeDrained, NodeLost
from swe_aem.fleet.events import RunEvents
from swe_aem.fleet.fleet import Fleet, FleetPlace
from swe_aem.fleet.messages import Identity, Job, Opening
from swe_aem.fleet.node import Attempt
from swe_aem.rollout import RolloutConfig
from swe_aem.rollout.breaker import describe
from swe_aem.rollout.broken_tasks import FILE as BROKEN_TASKS
from swe_aem.rollout.budget import backoff_s, trajectory_s
from swe_aem.rollout.roller import Done, Place, RunState
from swe_aem.store import failed_attempt
from swe_aem.tasks import TaskSet


class RemoteRoller:
    """Rolls out trajectories on agents, as many at once as those have places.

    A host that is lost uses up an attempt of each trajectory there; one that is drained does not. What a host could not
    finish is tried once more on another one, so that a broken host costs no trajectory.
    """

    def __init__(self, config: RolloutConfig, tasks: TaskSet, directory: Path, engine: Engine, *, run: str) -> None:
        """`directory` is the store's; `run` is the run's id."""
        self._config, self._tasks, self._directory, self._engine, self._run_id = config, tasks, directory, engine, run
        self._opened: tuple[RunState, Fleet] | None = None

    @asynccontextmanager
    async def open(self, run: RunState) -> AsyncIterator[None]:
        """Agents on the hosts of the cluster; once."""
        assert self._config.cluster is not None
        async with self._engine.open():
            events = RunEvents(run, self._directory)
            opening = await asyncio.to_thread(self._opening)
            async with Fleet(self._engine, self._config.cluster, opening, run, events).open() as fleet:
                self._opened = run, fleet
                try:
                    yield
                finally:
                    self._opened = None

    async def place(self, record: TaskRecord) -> FleetPlace:
        """Wait for a place on some host; see `Fleet.place`."""
        return await self.fleet.place(record)

    async def roll(self, record: TaskRecord, sample: int, place: Place) -> Done:
        """Roll out one trajectory to its end, on as many hosts as it takes; raises what `Roller.roll` does."""
        run, fleet = self._open
        assert isinstance(place, FleetPlace)
        loop, key = asyncio.get_running_loop(), TrajectoryKey(record.task.id, sample)
        ends_s = loop.time() + trajectory_s(self._config)
        earlier: list[str] = []
        tried: frozenset[str] = frozenset()
        most = self._config.scheduling.max_attempts
        try:
            while True:
                given = tuple(earlier)
                try:
                    rolled, attempt = await fleet.roll(
                        place,
                        key,
                        lambda token, given=given: Job(token, record, sample, given, max(0.0, ends_s - loop.time())),
                    )
                except NodeDrained as error:
                    run.watcher.tell(f"{key} moves: {error}")
                except NodeLost as error:
                    earlier.append(f"agent: {describe(error)}")
                    self._tell_lost(run, key, len(earlier), error)
                    if len(earlier) >= most or loop.time() >= ends_s:
                        return Done.of(self._given_up(key, earlier), settled=False)
                else:
                    if rolled.error is not None:
                        raise rolled.error
                    assert rolled.done is not None
                    tried |= {place.node.id}
                    if not self._is_for_another_host(rolled.done, attempt, tried, fleet):
                        run.terminal(key)
                        return rolled.done
                    earlier += attempt.failures
                place.release()
                await asyncio.sleep(backoff_s(self._config.scheduling, 1))
                place = await fleet.place(record, apart_from=tried)
        finally:
            place.release()

    @property
    def fleet(self) -> Fleet:
        """The hosts, while this is open."""
        return self._open[1]

    @property
    def _open(self) -> tuple[RunState, Fleet]:
        if self._opened is None:
            raise RuntimeError("a roller rolls out only inside `async with roller.open(...)`")
        return self._opened

    def _opening(self) -> Opening:
        known = self._directory / BROKEN_TASKS
        return Opening(
            config=self._config,
            tasks=TaskSet(name=self._tasks.name, records=(), packages=self._tasks.packages),
            run=self._run_id,
            directory=str(Path.cwd()),
            identity=Identity.own(),
            broken_tasks=known.read_bytes() if known.exists() else b"{}",
        )

    def _is_for_another_host(self, done: Done, attempt: Attempt, tried: frozenset[str], fleet: Fleet) -> bool:
        """Did nothing but the infrastructure of the hosts so far fail, and may another one do better?"""
        failed = done.counters.outcome is Outcome.INFRASTRUCTURE and not done.settled and bool(attempt.failures)
        return failed and len(tried) < self._config.scheduling.max_attempts and fleet.has_other(tried)

    def _tell_lost(self, run: RunState, key: TrajectoryKey, number: int, error: NodeLost) -> None:
        run.spending.again(key)
        run.watcher.failed(
            failed_attempt(
                error,
                task_id=key.task_id,
                sample=key.sample,
                attempt=number,
                part="agent",
                phase="agent",
                blame="infrastructure",
            )
        )

    def _given_up(self, key: TrajectoryKey, failures: list[str]) -> Trajectory:
        """The terminal trajectory of attempts that were all lost with their hosts."""
        return Trajectory(
            task_id=key.task_id,
            sample=key.sample,
            agent=self._config.agent_name,
            model="",
            outcome=Outcome.INFRASTRUCTURE,
            error="; ".join(failures),
            attempt=len(failures) - 1,
        )
