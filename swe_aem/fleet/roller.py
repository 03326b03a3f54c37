"""`RemoteRoller`: a `Roller` whose sandboxes are on the hosts of a cluster."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from swe_aem.core import Outcome, TaskRecord, Trajectory, TrajectoryKey
from swe_aem.fleet.engine import Engine
from swe_aem.fleet.fleet import Fleet, FleetPlace
from swe_aem.fleet.host_roller import open_host_roller
from swe_aem.fleet.host_work import OpenHostWork
from swe_aem.fleet.remote_work import AllLost, Piece, RemoteWork
from swe_aem.fleet.standing import StandingFleet
from swe_aem.fleet.starting_groups import FleetGroup
from swe_aem.rollout import RolloutConfig
from swe_aem.rollout.budget import trajectory_s
from swe_aem.rollout.roller import Done, Place, RunState, StartingGroup
from swe_aem.tasks import TaskSet


class RemoteRoller:
    """Rolls out trajectories on agents, as `RemoteWork` has work done."""

    def __init__(
        self,
        config: RolloutConfig,
        tasks: TaskSet,
        directory: Path,
        engine: Engine,
        *,
        run: str,
        work: OpenHostWork = open_host_roller,
        standing: StandingFleet | None = None,
    ) -> None:
        """`directory` is the store's; `run` is the run's id. `work` rolls out on a host. `standing` are agents that are
        there already."""
        self._config = config
        self._work = RemoteWork(work, config, tasks, directory, engine, run=run, part="agent", standing=standing)
        self._run: RunState | None = None

    def open(self, run: RunState) -> AbstractAsyncContextManager[None]:
        """Agents on the hosts of the cluster; once."""
        self._run = run
        return self._work.open(run)

    async def admit(self, record: TaskRecord, count: int) -> FleetGroup:
        """Wait until a group may be started; see `Fleet.admit`."""
        return await self._work.admit(record, count)

    async def place(self, record: TaskRecord, group: StartingGroup | None = None) -> FleetPlace:
        """Wait for a place on some host; see `Fleet.place`."""
        return await self._work.place(record, group)

    async def roll(self, record: TaskRecord, sample: int, place: Place) -> Done:
        """Roll out one trajectory to its end, on as many hosts as it takes; raises what `Roller.roll` does."""
        key = TrajectoryKey(record.task.id, sample)
        piece = Piece(record, sample, limit_s=trajectory_s(self._config), failed=_is_for_another_host)
        try:
            done: Done = await self._work.do(piece, place)
        except AllLost as error:
            return Done.of(self._given_up(key, error.failures), settled=False)
        assert self._run is not None
        self._run.terminal(key)
        return done

    @property
    def fleet(self) -> Fleet:
        """The hosts, while this is open."""
        return self._work.fleet

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


def _is_for_another_host(done: Done) -> bool:
    """Did nothing but the infrastructure of its host fail, and may another one do better?"""
    return done.counters.outcome is Outcome.INFRASTRUCTURE and not done.settled
