"""`open_host_roller`: trajectories as work on a host, with real sandboxes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from swe_aem.fleet.host_work import HostWork, OpenHostBackend, host_backend, open_host
from swe_aem.fleet.messages import HostSize, Job, Opening
from swe_aem.fleet.outbox import Outbox
from swe_aem.rollout import open_components
from swe_aem.rollout.local_roller import LocalRoller
from swe_aem.rollout.roller import Done, Place
from swe_aem.rollout.run import OpenComponents


@asynccontextmanager
async def open_host_roller(
    opening: Opening,
    outbox: Outbox,
    *,
    open_components: OpenComponents = open_components,
    backend: OpenHostBackend = host_backend,
) -> AsyncIterator[HostWork]:
    """The ordinary components, gate and grader of a run, in this process; each job ends in a `Done`.

    Raises `UserError` for what is not there, such as an engine, or cannot be used.
    """
    config = opening.config
    async with (
        open_host(opening, outbox, HostSize.for_trajectories(config), backend=backend) as host,
        open_components(config, host.tasks) as components,
    ):
        roller = LocalRoller(config, components, host.backend, host.directory, run=opening.run)

        async def roll(job: Job, place: Place) -> Done:
            host.tasks.take(job.record)
            return await roller.roll(job.record, job.sample, place, earlier=job.earlier, left_s=job.left_s)

        async with roller.open(outbox.run_state()):
            yield HostWork(host.size, roll, host.broken_tasks, fetch=host.fetch)
