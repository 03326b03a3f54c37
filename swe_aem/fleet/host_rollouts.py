"""`open_host_rollouts`: the trajectories of several rollouts on one host, all with one policy: those of a training run,
whose steps and evaluations are a rollout each.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from swe_aem.fleet.access import PolicyAccess
from swe_aem.fleet.host_work import HostWork, OpenHost, OpenHostBackend, ReceivedTasks, host_backend, open_host
from swe_aem.fleet.messages import HostSize, Job, Opening, SharingRollout
from swe_aem.fleet.outbox import Outbox
from swe_aem.grading import Grader, SwebenchParser
from swe_aem.policy.following import Follower
from swe_aem.rollout import Places, RolloutComponents, RolloutConfig, components_of, open_agents, turn_renderer
from swe_aem.rollout.local_roller import LocalRoller
from swe_aem.rollout.roller import Done, Place
from swe_aem.tasks import TaskSet


@dataclass(frozen=True)
class SharedComponents:
    """What the rollouts share."""

    components: Callable[[RolloutConfig, TaskSet], RolloutComponents]
    """Those of one rollout."""
    follower: Follower | None = None


OpenShared = Callable[[Opening], AbstractAsyncContextManager[SharedComponents]]


@asynccontextmanager
async def open_shared(opening: Opening) -> AsyncIterator[SharedComponents]:
    """The agents of the opening's configuration, its policy by the opening's settings (`PolicyAccess`), and a parser of
    logs."""
    access: PolicyAccess = opening.settings
    renderer = turn_renderer(opening.config)
    async with (
        access.opened(opening.config.at_once.concurrency) as opened,
        SwebenchParser() as parser,
        open_agents(opening.config, renderer) as agents,
    ):

        def components(config: RolloutConfig, tasks: TaskSet) -> RolloutComponents:
            grader = lambda gate: Grader(gate, parser, twins=config.twins)  # noqa: E731
            return components_of(agents(config), tasks, lambda record, sample: opened.policy, grader)

        yield SharedComponents(components, opened.follower)


@asynccontextmanager
async def open_host_rollouts(
    opening: Opening,
    outbox: Outbox,
    *,
    open_shared: OpenShared = open_shared,
    backend: OpenHostBackend = host_backend,
) -> AsyncIterator[HostWork]:
    """Each job names its rollout (`SharingRollout`) and ends in a `Done`. Raises what `open_host` does, and `UserError`
    if the policy cannot be reached."""
    config = opening.config
    async with (
        open_host(opening, outbox, HostSize.for_trajectories(config), backend=backend) as host,
        open_shared(opening) as shared,
    ):
        rollouts = _Rollouts(host, outbox, shared, Places(config.at_once))
        try:
            yield HostWork(host.size, rollouts.roll, host.broken_tasks, shared.follower, host.fetch)
        finally:
            await rollouts.close()


class _Rollouts:
    """The rollouts that have jobs here."""

    def __init__(self, host: OpenHost, outbox: Outbox, shared: SharedComponents, places: Places) -> None:
        self._host, self._outbox, self._shared, self._places = host, outbox, shared, places
        self._open: dict[int, _OpenRollout] = {}

    async def roll(self, job: Job, place: Place) -> Done:
        """Roll out one trajectory to its end; raises what `LocalRoller.roll` does."""
        rollout: SharingRollout = job.payload
        for number, other in list(self._open.items()):
            if number not in rollout.live and not other.jobs:
                self._open.pop(number).closing.set()
        if rollout.number not in self._open:
            self._open[rollout.number] = _OpenRollout(self._keep, rollout)
        opened = self._open[rollout.number]
        opened.jobs += 1
        try:
            roller, tasks = await asyncio.shield(opened.ready)
            tasks.take(job.record)
            return await roller.roll(job.record, job.sample, place, earlier=job.earlier, left_s=job.left_s)
        finally:
            opened.jobs -= 1

    async def close(self) -> None:
        """End all."""
        for opened in self._open.values():
            opened.closing.set()
        if self._open:
            await asyncio.wait({opened.keeper for opened in self._open.values()})

    async def _keep(self, rollout: SharingRollout, opened: "_OpenRollout") -> None:
        """Hold open what one rollout needs: one task enters and leaves it."""
        config = rollout.config
        tasks = ReceivedTasks(name=rollout.tasks.name, records=(), packages=rollout.tasks.packages)
        components = self._shared.components(config, tasks)
        roller = LocalRoller(
            config, components, self._host.backend, self._host.directory, run=rollout.run, places=self._places
        )
        try:
            async with roller.open(self._outbox.of_rollout(rollout.number).run_state()):
                opened.ready.set_result((roller, tasks))
                await opened.closing.wait()
        except Exception as error:
            if opened.ready.done():
                raise
            opened.ready.set_exception(error)


class _OpenRollout:
    """One of them."""

    def __init__(self, keep: Callable[[SharingRollout, "_OpenRollout"], object], rollout: SharingRollout) -> None:
        self.ready: asyncio.Future[tuple[LocalRoller, ReceivedTasks]] = asyncio.get_running_loop().create_future()
        self.closing = asyncio.Event()
        self.jobs = 0
        self.keeper = asyncio.ensure_future(keep(rollout, self))  # type: ignore[arg-type]
