"""`FakeEngine`: hosts in this process that can be lost, fall silent, answer late, be drained, and come back.

It does what `swe_aem.fleet.Engine` promises, without Ray: for tests of what a fleet makes of such hosts. On an event
loop with a clock of its own it needs no time.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from swe_aem.fleet import Host, NodeLost, NodeSilent


@dataclass(eq=False)
class FakeHost:
    """A host, and what happens to it."""

    id: str
    name: str
    alive: bool = True
    reachable: bool = True
    draining: bool = False
    delay_s: float = 0.0
    """Answers take so long to arrive."""
    works: set["asyncio.Task[Any]"] = field(default_factory=set)
    """Methods that run there."""
    agents: list["_Agent"] = field(default_factory=list)


@dataclass(eq=False)
class _Agent:
    host: FakeHost
    methods: Any
    ended: bool = False


class FakeEngine:
    """Agents that `make_agent(name of the host)` makes."""

    def __init__(self, make_agent: Callable[[str], Any], *, silence_s: float = 1.0) -> None:
        """A call of a host that is not reachable raises `NodeSilent` after `silence_s`."""
        self._make_agent, self._silence_s = make_agent, silence_s
        self.hosts: dict[str, FakeHost] = {}
        self._made = 0
        self._ending: set[asyncio.Task[None]] = set()

    def add(self, name: str) -> FakeHost:
        """A host joins, or joins again."""
        self._made += 1
        host = FakeHost(f"{self._made:08x}", name)
        self.hosts[host.id] = host
        return host

    def lose(self, host: FakeHost) -> None:
        """A host is gone, with all that it did: sandboxes end with the process that has them."""
        host.alive = False
        del self.hosts[host.id]
        for work in list(host.works):
            work.cancel()
        for agent in host.agents:
            self._ending.add(asyncio.ensure_future(agent.methods.close()))

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Agents, for the length of the block."""
        try:
            yield
        finally:
            for host in list(self.hosts.values()):
                self.lose(host)
            await asyncio.gather(*self._ending)

    async def nodes(self) -> list[Host]:
        """Hosts that are there: one that cannot be reached is still listed, as Ray does for a while."""
        return [Host(host.id, host.name, host.draining) for host in self.hosts.values()]

    async def start(self, host: str) -> _Agent:
        """A new agent on a host."""
        if host not in self.hosts:
            raise NodeLost("the host is gone")
        agent = _Agent(self.hosts[host], self._make_agent(self.hosts[host].name))
        agent.host.agents.append(agent)
        return agent

    async def call(self, agent: _Agent, method: str, *arguments: Any, within_s: float | None = None) -> Any:
        """What a method of an agent returns or raises, unless its host is lost or does not answer."""
        host = agent.host
        self._require(agent)
        if not host.reachable:
            await asyncio.sleep(min(self._silence_s, within_s or self._silence_s))
            raise NodeSilent("no answer")
        work = asyncio.ensure_future(getattr(agent.methods, method)(*arguments))
        host.works.add(work)
        work.add_done_callback(host.works.discard)
        answer = asyncio.ensure_future(_delayed(work, host))
        try:
            done, _ = await asyncio.wait({answer}, timeout=within_s)
        except asyncio.CancelledError:
            if host.reachable:
                work.cancel()
                await asyncio.wait({work})
            raise
        finally:
            answer.cancel()
        self._require(agent)
        if not done or not host.reachable:
            raise NodeSilent("no answer")
        if work.cancelled():
            raise NodeLost("the call was cancelled there")
        return work.result()

    async def stop(self, agent: _Agent) -> None:
        """End an agent, and what it does, if its host can be reached."""
        if not agent.ended and agent.host.alive and agent.host.reachable:
            self._ending.add(asyncio.ensure_future(agent.methods.close()))
        agent.ended = True

    def _require(self, agent: _Agent) -> None:
        if agent.ended or not agent.host.alive:
            raise NodeLost("the host is gone")


async def _delayed(work: "asyncio.Task[Any]", host: FakeHost) -> None:
    """Return when the answer arrives."""
    await asyncio.wait({work})
    await asyncio.sleep(host.delay_s)
