"""Where a fleet puts the trajectories of many tasks: which host gets which images, in virtual time."""

import asyncio
import random
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from in_memory import run_state

from swe_aem.core import TaskRecord
from swe_aem.fleet.agent import NodeAgent
from swe_aem.fleet.host_work import HostWork
from swe_aem.fleet.messages import HostSize, Job, Opening
from swe_aem.fleet.outbox import Outbox
from swe_aem.fleet.roller import RemoteRoller
from swe_aem.rollout import RolloutConfig
from swe_aem.rollout.roller import Done, Place
from swe_aem.tasks import TaskSet
from swe_aem.testing.builders import make_record, make_trajectory
from swe_aem.testing.engine import FakeEngine
from swe_aem.testing.virtual_time import run_in_virtual_time

PLACES = 32


def spread(*, groups: int, group_size: int, hosts: int) -> Counter[str]:
    """How many distinct images each host had, once one group of each of so many tasks is rolled out."""
    seen: set[tuple[str, str]] = set()

    def agent(host: str) -> NodeAgent:
        async def roll(job: Job, place: Place) -> Done:
            seen.add((host, job.record.task.image))
            key = f"{job.record.task.id}.{job.sample}"
            await asyncio.sleep(random.Random(key).lognormvariate(6.0, 0.7))
            place.release()
            return Done.of(make_trajectory(job.record.task.id, job.sample))

        @asynccontextmanager
        async def opened(opening: Opening, outbox: Outbox) -> AsyncIterator[HostWork]:
            yield HostWork(HostSize(processors=16, memory_bytes=1 << 37, places=PLACES), roll)

        return NodeAgent(open_work=opened)

    engine = FakeEngine(agent)
    for number in range(hosts):
        engine.add(f"host-{number}")
    records = []
    for number in range(groups):
        record = make_record(f"task-{number}")
        image = {"image": f"image-{number}"}
        records.append(record.model_copy(update={"task": record.task.model_copy(update=image)}))
    with tempfile.TemporaryDirectory() as directory:
        run_in_virtual_time(_roll_out(engine, records, group_size, hosts, Path(directory)))
    return Counter(host for host, _ in seen)


async def _roll_out(
    engine: FakeEngine, records: list[TaskRecord], group_size: int, hosts: int, directory: Path
) -> None:
    """Start trajectories in the order and as soon as the orchestrator does, and store nothing."""
    config = RolloutConfig.model_validate({"group_size": group_size, "cluster": {"min_nodes": hosts}})
    roller = RemoteRoller(config, TaskSet("images", ()), directory, engine, run="run")
    run = run_state(config, len(records))
    async with roller.open(run), asyncio.TaskGroup() as rolling:
        for record in records:
            for sample in range(group_size):
                place = await roller.place(record)
                rolling.create_task(roller.roll(record, sample, place))
