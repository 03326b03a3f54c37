"""`NodeAgent`: does jobs on one host for a run elsewhere, such as trajectories to roll out.

It works only for live tokens: what the run has given up ends here at the next look, and where no look comes for long,
all of it does.
"""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from swe_aem.errors import InfrastructureError
from swe_aem.fleet.engine import NodeLost
from swe_aem.fleet.host_shares import HostShare, RunShare, shares_of_this_host
from swe_aem.fleet.host_work import HostWork, OpenHostWork, look_at_this_host
from swe_aem.fleet.image_fetches import ImageFetches
from swe_aem.fleet.messages import Finished, HostSize, Identity, Job, Live, Opening, Report, portable
from swe_aem.fleet.outbox import Outbox
from swe_aem.policy.following import Order
from swe_aem.rollout import RolloutConfig

_SOON_S = 2.0
"""How long an agent waits for what it is asked to wait for, before it says that it is asked too early."""


def _end_process() -> None:
    os._exit(1)


class NodeAgent:
    """One per host and run. Its methods are called through an `Engine`, several at a time."""

    def __init__(
        self,
        *,
        open_work: OpenHostWork | None = None,
        shares_host: bool = True,
        leave: Callable[[], None] = _end_process,
    ) -> None:
        """`open_work` stands for the `work` of its opening. `shares_host`: agents of other runs may be on the host.
        `leave` ends the agent's process, once no look has come for long and all that it had is closed."""
        self._open_work, self._shares_host, self._leave = open_work, shares_host, leave
        self._jobs: dict[int, asyncio.Task[_Ended]] = {}
        self._live = Live(0, frozenset(), 0, False)
        self._closing = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._opened: _Opened | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._abandoned: asyncio.Task[None] | None = None

    async def identity(self) -> Identity:
        """This process's software."""
        return Identity.own()

    async def size(self, config: RolloutConfig) -> HostSize:
        """The host's size, and its places for the sandboxes of a configuration; raises as `look_at_this_host`."""
        try:
            return await look_at_this_host(config)
        except Exception as error:
            raise portable(error) from None

    async def shares(self) -> tuple[RunShare, ...]:
        """What the agents of all runs have of the host."""
        return await asyncio.to_thread(shares_of_this_host)

    async def open(self, opening: Opening) -> HostSize:
        """Open what jobs need, once; returns the host's size. Raises `UserError` for what does not fit here."""
        ready: asyncio.Future[HostSize] = asyncio.get_running_loop().create_future()
        self._keeper = asyncio.create_task(self._keep(opening, ready))
        return await asyncio.shield(ready)  # a run that ends before does not undo what is being opened

    async def do(self, job: Job) -> Finished:
        """Do one job. A second call with the same token waits for the first one's result."""
        outbox = self._ready.outbox
        if job.token not in self._jobs:
            if job.token <= self._live.issued and job.token not in self._live.tokens:
                raise InfrastructureError(f"token {job.token} is void: its work was given to another host")
            self._jobs[job.token] = asyncio.create_task(self._do(job))
        doing = self._jobs[job.token]
        try:
            ended = await asyncio.shield(doing)
        except asyncio.CancelledError:
            doing.cancel()
            await asyncio.wait({doing})  # its sandboxes close
            raise
        return Finished(outbox.last, ended.result, ended.error)

    async def look(self, live: Live) -> Report:
        """What has happened. Ends whatever works for a token that is not live."""
        opened = self._ready
        self._wait_for_looks(opened)
        self._live = live
        opened.outbox.arrived(live.seen)
        opened.outbox.spending.used_up = live.budget_spent
        if opened.images is not None:
            opened.images.want(live.images)
        for token in [one for one in self._jobs if one <= live.issued and one not in live.tokens]:
            self._jobs.pop(token).cancel()
        if opened.share is not None and opened.share.is_short:
            await asyncio.to_thread(opened.share.take)
        places = None if opened.share is None else opened.share.places
        return opened.outbox.report(opened.news_of_broken_tasks(), places)

    async def obey(self, order: Order) -> bool:
        """Have the policy take an order of its leader; has that been done, or was it soon? See `Follower.obey`."""
        follower = self._ready.work.follower
        return follower is None or await follower.obey(order, within_s=_SOON_S)

    async def unused(self, name: str) -> bool:
        """Does no request name that model or adapter, or soon none any more?"""
        follower = self._ready.work.follower
        return follower is None or await follower.unused(name, within_s=_SOON_S)

    async def close(self) -> None:
        """End everything; sandboxes are closed on return."""
        if self._patience is not None:
            self._patience.cancel()
        for doing in self._jobs.values():
            doing.cancel()
        if self._jobs:
            await asyncio.wait(self._jobs.values())
        self._jobs.clear()
        self._opened = None
        self._closing.set()
        if self._keeper is not None:
            await self._keeper

    @property
    def _ready(self) -> "_Opened":
        if self._opened is None:
            raise NodeLost("its agent has ended")
        return self._opened

    async def _keep(self, opening: Opening, ready: "asyncio.Future[HostSize]") -> None:
        """Hold open what `open` opened until `close`: one task enters and leaves it."""
        outbox = Outbox(opening.config.budget)
        try:
            async with (self._open_work or opening.work)(opening, outbox) as work:
                assert opening.config.cluster is not None
                images = None if work.fetch is None else ImageFetches(work.fetch, outbox.tell)
                share = HostShare(opening, work.size) if self._shares_host else None
                self._opened = _Opened(
                    work, outbox, opening.config.cluster.lost_after_s, opening.broken_tasks, images, share
                )
                self._wait_for_looks(self._opened)
                ready.set_result(work.size if share is None else share.of(work.size))
                await self._closing.wait()
                if share is not None:
                    share.release()
                if images is not None:
                    await images.close()
        except Exception as error:
            if ready.done():
                raise
            ready.set_exception(portable(error))

    async def _do(self, job: Job) -> "_Ended":
        opened = self._ready
        place = _ToldPlace(lambda: opened.outbox.add("released", job.token))
        if opened.images is not None:
            opened.images.begin(job.record.task.image)
        try:
            return _Ended(await opened.work.do(job, place))
        except Exception as error:
            return _Ended(error=portable(error))

    def _wait_for_looks(self, opened: "_Opened") -> None:
        """End everything if the next look takes too long: the run has given up this host by then."""
        if self._patience is not None:
            self._patience.cancel()
        self._patience = asyncio.get_running_loop().call_later(2 * opened.lost_after_s, self._abandon)

    def _abandon(self) -> None:
        self._abandoned = asyncio.create_task(self.close())
        self._abandoned.add_done_callback(lambda _: self._leave())


@dataclass(frozen=True)
class _Ended:
    """What a job returned, or what it raised."""

    result: Any = None
    error: Exception | None = None


@dataclass
class _Opened:
    """What exists while an agent is open."""

    work: HostWork
    outbox: Outbox
    lost_after_s: float
    told: bytes
    """What the run knows of broken tasks."""
    images: ImageFetches | None = None
    """Brings images here; None where that cannot be done."""
    share: HostShare | None = None
    """What it has of the host; None where it shares that with nobody."""

    def news_of_broken_tasks(self) -> bytes | None:
        """What is known of broken tasks, if the run does not know it."""
        known = self.work.broken_tasks()
        if known == self.told:
            return None
        self.told = known
        return known


class _ToldPlace:
    """A place that belongs to the run, which is told once when it is free."""

    def __init__(self, told: Callable[[], None]) -> None:
        self._told: Callable[[], None] | None = told

    def release(self) -> None:
        """The agent needs the place no more; only the first call counts."""
        told, self._told = self._told, None
        if told is not None:
            told()
