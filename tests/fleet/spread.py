"""Where a fleet starts the trajectories of many groups, and how well it uses its places, in virtual time.

The orchestrator, fleet, agents and store are the real ones; a trajectory is a sleep of log-normal length, the same in
every run.
"""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from swe_aem.core import TaskRecord, TrajectoryKey
from swe_aem.fleet.agent import NodeAgent
from swe_aem.fleet.host_work import HostWork
from swe_aem.fleet.messages import HostSize, Job, Opening
from swe_aem.fleet.outbox import Outbox
from swe_aem.fleet.roller import RemoteRoller
from swe_aem.rollout import RolloutConfig
from swe_aem.rollout.group import group_of
from swe_aem.rollout.orchestrator import Orchestrator
from swe_aem.rollout.progress import RunProgress
from swe_aem.rollout.roller import Done, Place
from swe_aem.store import Store, Totals
from swe_aem.tasks import TaskSet
from swe_aem.testing.builders import make_record, make_trajectory
from swe_aem.testing.engine import FakeEngine
from swe_aem.testing.virtual_time import run_in_virtual_time

_MEDIAN_S = 400.0


class FreeForAll(RemoteRoller):
    """Groups are started one after the other, each trajectory wherever a place is free."""

    async def admit(self, record: TaskRecord, count: int) -> None:  # type: ignore[override]
        """They do not wait for a host."""


@dataclass
class Spread:
    """Groups rolled out on hosts that are full."""

    directory: Path
    hosts: int
    groups: int
    group_size: int
    places: int = 32
    sigma: float = 0.7
    """Of the logarithm of trajectories' times: at 1, one in a hundred takes ten times the median."""
    roller: type[RemoteRoller] = RemoteRoller
    beside: Callable[["Spread"], Awaitable[None]] | None = None
    """Changes hosts meanwhile."""
    images: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Those that each host had, by its name."""
    running: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Trajectories that run now, by host and image."""
    taken_s: float = 0.0
    """Until the last trajectory had ended."""
    idle_share: float = 0.0
    """Of all places, until the last trajectory had started."""

    def __post_init__(self) -> None:
        self.engine = FakeEngine(self._agent)
        for number in range(self.hosts):
            self.engine.add(f"host-{number}")
        self.records = [_record(number) for number in range(self.groups)]
        self._starts: list[tuple[float, int]] = []

    @property
    def images_to_ideal(self) -> float:
        """Images that a host had, on average, for each that it would have if every image were on one host."""
        return sum(map(len, self.images.values())) / self.groups

    def run(self) -> "Spread":
        """Roll out what the store lacks."""
        run_in_virtual_time(self._roll_out())
        return self

    async def _roll_out(self) -> None:
        config = RolloutConfig.model_validate(
            {
                "group_size": self.group_size,
                "cluster": {"min_nodes": self.hosts, "beat_s": 10.0, "lost_after_s": 20.0, "drain_s": 10.0},
                "scheduling": {"max_attempts": 20},
            }
        )
        roller = self.roller(config, TaskSet("images", ()), self.directory, self.engine, run="run")
        with Store(self.directory).writer() as writer:
            groups = [group_of(config, record, writer.rows) for record in self.records]
            progress = RunProgress(Totals(), wanted=0, group_size=self.group_size)
            beside = [asyncio.ensure_future(self.beside(self))] if self.beside else []
            self.orchestrator = Orchestrator(config, groups, roller, writer, progress)
            await self.orchestrator.run()
            for one in beside:
                await one
        self.taken_s = asyncio.get_running_loop().time()
        self.idle_share = self._idle_share()

    def _idle_share(self) -> float:
        """Places are counted from the first start, when all hosts have joined."""
        changes = sorted(self._starts)
        began_s, last_s = changes[0][0], max(at_s for at_s, change in changes if change > 0)
        used_s = sum(change * (last_s - min(at_s, last_s)) for at_s, change in changes)
        return 1 - used_s / (self.hosts * self.places * (last_s - began_s))

    def _agent(self, host: str) -> NodeAgent:
        async def roll(job: Job, place: Place) -> Done:
            self.images[host].add(job.record.task.image)
            key = TrajectoryKey(job.record.task.id, job.sample)
            loop = asyncio.get_running_loop()
            self._starts.append((loop.time(), 1))
            self.running[host, job.record.task.image] += 1
            try:
                await asyncio.sleep(_MEDIAN_S * random.Random(str(key)).lognormvariate(0.0, self.sigma))
            finally:
                self._starts.append((loop.time(), -1))
                self.running[host, job.record.task.image] -= 1
            place.release()
            return Done.of(make_trajectory(*key))

        @asynccontextmanager
        async def opened(opening: Opening, outbox: Outbox) -> AsyncIterator[HostWork]:
            yield HostWork(HostSize(processors=16, memory_bytes=1 << 37, places=self.places), roll)

        return NodeAgent(open_work=opened, shares_host=False, leave=lambda: None)


def _record(number: int) -> TaskRecord:
    record = make_record(f"task-{number}")
    return record.model_copy(update={"task": record.task.model_copy(update={"image": f"image-{number}"})})
