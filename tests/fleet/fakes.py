"""Rollouts on hosts that are fakes: the orchestrator, roller, agents and store are the real ones."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from swe_aem.core import Sandbox, Stop, Task
from swe_aem.fleet.agent import NodeAgent
from swe_aem.fleet.host_roller import open_host_roller
from swe_aem.fleet.roller import RemoteRoller
from swe_aem.rollout import RolloutComponents
from swe_aem.rollout.orchestrator import Orchestrator
from swe_aem.tasks import TaskSet
from swe_aem.testing.builders import make_record
from swe_aem.testing.engine import FakeEngine, FakeHost
from swe_aem.testing.sandbox import FakeBackend
from tests.rollout.fakes import Bench, FakeAgent, submit

CLUSTER = {"lost_after_s": 20.0, "wait_s": 500.0, "drain_s": 10.0}


@dataclass
class FleetBench:
    """One rollout over fake hosts; hosts that are black holes fail every start of a sandbox at once."""

    directory: Path
    tasks: int = 3
    group_size: int = 4
    work_s: float = 5.0
    cluster: dict[str, Any] = field(default_factory=dict)
    scheduling: dict[str, Any] = field(default_factory=dict)
    behaviour: Callable[[FakeAgent, Task, Sandbox, int], Awaitable[Stop]] = submit
    make_agent: type[FakeAgent] = FakeAgent
    make_engine: type[FakeEngine] = FakeEngine
    time_limit_s: float = 1000.0
    shares_host: bool = False
    """Do agents count what those of other runs on this machine have?"""

    def __post_init__(self) -> None:
        self.backends: dict[str, FakeBackend] = {}
        self.engine = self.make_engine(self._agent)
        self.left: list[str] = []
        """Names of hosts whose agents ended by themselves."""
        self.bench = Bench(
            self.directory,
            [make_record(f"task-{number}") for number in range(self.tasks)],
            scheduling={"concurrency": 4, **self.scheduling},
            settings={
                "group_size": self.group_size,
                "time_limit_s": self.time_limit_s,
                "cluster": CLUSTER | self.cluster,
            },
        )

    def host(self, name: str, *, black_hole: bool = False) -> FakeHost:
        """A host joins."""
        self.backends.setdefault(name, FakeBackend()).fail_starts = 10**9 if black_hole else 0
        return self.engine.add(name)

    async def run(self, *beside: Callable[[RemoteRoller], Awaitable[None]]) -> Orchestrator:
        """Roll out to the end, with something beside that changes hosts; returns how it ended."""
        async with self.bench.orchestrator(elsewhere=self.elsewhere) as orchestrator:
            tasks = [asyncio.ensure_future(one(self.roller)) for one in beside]
            try:
                await orchestrator.run()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            if not task.cancelled():
                task.result()
        return orchestrator

    def elsewhere(self, _: object) -> RemoteRoller:
        """What rolls out, in place of a roller on this host."""
        self.roller = RemoteRoller(self.bench.config(), TaskSet("fakes", ()), self.directory, self.engine, run="run")
        return self.roller

    @property
    def told(self) -> str:
        """All messages of the run."""
        return "\n".join(self.bench.progress.news)

    @property
    def sandboxes_left(self) -> int:
        """Sandboxes that are open on any host."""
        return sum(len(backend.live) for backend in self.backends.values())

    def _agent(self, name: str) -> NodeAgent:
        agent = self.make_agent(work_s=self.work_s, behaviour=self.behaviour)
        components = replace(self.bench.components(), agent=agent)

        @asynccontextmanager
        async def opened(*_: object) -> AsyncIterator[RolloutComponents]:
            yield components

        backend = self.backends[name]
        return NodeAgent(
            open_work=partial(open_host_roller, open_components=opened, backend=lambda config: backend),
            shares_host=self.shares_host,
            leave=lambda: self.left.append(name),
        )
