"""An agent works for live tokens alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from swe_aem.errors import InfrastructureError
from swe_aem.fleet.agent import NodeAgent
from swe_aem.fleet.host_work import HostWork
from swe_aem.fleet.messages import HostSize, Identity, Job, Live, Opening
from swe_aem.fleet.outbox import Outbox
from swe_aem.rollout import RolloutConfig
from swe_aem.rollout.cluster_config import ClusterConfig
from swe_aem.rollout.roller import Done, Place
from swe_aem.tasks import TaskSet
from swe_aem.testing.builders import make_record
from swe_aem.testing.virtual_time import run_in_virtual_time


def test_a_look_ends_what_is_not_live_and_leaves_what_it_does_not_speak_of() -> None:
    ended: list[int] = []

    async def roll(job: Job, place: Place) -> Done:
        try:
            await asyncio.sleep(10.0)
        finally:
            ended.append(job.token)
        raise InfrastructureError("the end")

    @asynccontextmanager
    async def opened(opening: Opening, outbox: Outbox) -> AsyncIterator[HostWork]:
        yield HostWork(HostSize(1, 1, 1), roll)

    async def main() -> None:
        agent = NodeAgent(shares_host=False, leave=lambda: None)
        config = RolloutConfig(cluster=ClusterConfig())
        await agent.open(Opening(opened, config, TaskSet("fakes", ()), "run", "/", Identity("1", "3")))
        jobs = [asyncio.ensure_future(agent.do(Job(token, make_record(), token, (), 60.0))) for token in (1, 2, 3)]
        await asyncio.sleep(1.0)
        await agent.look(Live(issued=2, tokens=frozenset({2}), seen=0, budget_spent=False))
        await asyncio.sleep(1.0)
        assert ended == [1]
        with pytest.raises(InfrastructureError, match="token 1 is void"):
            await agent.do(Job(1, make_record(), 1, (), 60.0))
        await agent.close()
        assert sorted(ended) == [1, 2, 3]
        await asyncio.gather(*jobs, return_exceptions=True)

    run_in_virtual_time(main())
