"""Policies that follow another one, which changes the weights of the servers that all of them ask."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")

from swe_aem.policy.following import Follower, Order  # noqa: E402
from swe_aem.policy.vllm import VllmPolicy  # noqa: E402
from swe_aem.testing.tagging_vllm import FakeTaggingVllm, version_of  # noqa: E402
from tests.serve.tagged import WEIGHTS, Trajectories, check_against_servers, opened  # noqa: E402
from tests.serve.test_in_flight import LONG  # noqa: E402
from tests.waiting import until  # noqa: E402

pytestmark = pytest.mark.torch


class Direct:
    """Followers in this process. Those in `cut_off` hear nothing, and are given up."""

    def __init__(self, *followers):
        self._followers = followers
        self._order = Order(0, ())
        self.cut_off = set()
        self.late_s = 0.0
        """An order takes so long to arrive."""

    def _tell(self, *servers, **held):
        self._order = Order(self._order.number + 1, servers, **held)
        self._told = [asyncio.create_task(self._until_done(one, self._order)) for one in self._heard]

    async def _until_done(self, follower, order):
        await asyncio.sleep(self.late_s)
        done = False
        while not done and order is self._order:
            done = await follower.obey(order, within_s=0.1)

    @property
    def _heard(self):
        return [one for one in self._followers if one not in self.cut_off]

    def hold(self, *, interrupted):
        self._tell(held=True, interrupted=interrupted)

    async def idle(self):
        await asyncio.gather(*self._told)
        return not self.cut_off

    def release(self, servers):
        self._tell(*servers)

    async def unused(self, name):
        for one in self._heard:
            while not await one.unused(name, within_s=0.1):
                """Not yet."""


@asynccontextmanager
async def followed(fakes, directory, count, **changes):
    """A leader's sync, its followers' policies, and what connects them."""
    async with opened(fakes, directory, **changes) as (leader, sync), AsyncExitStack() as stack:
        policies = [VllmPolicy(leader.config, told=leader.orders) for _ in range(count)]
        for policy in policies:
            await stack.enter_async_context(policy)
        followers = [Follower(policy) for policy in policies]
        leader.followers = direct = Direct(*followers)
        yield sync, policies, direct
        for follower in followers:
            await follower.close()


@pytest.mark.parametrize("in_flight", ["interrupt", "drain"])
async def test_no_token_bears_another_version_than_sampled_it(tmp_path, in_flight):
    fakes = [FakeTaggingVllm() for _ in range(2)]
    async with followed(fakes, tmp_path, 2, in_flight=in_flight) as (sync, policies, _):
        many = [Trajectories(policy, seed) for seed, policy in enumerate(policies)]
        working = [asyncio.create_task(one.run(6)) for one in many]
        for version in range(2, 5):
            before = sum(fake.sampled for fake in fakes)
            await until(lambda before=before: sum(fake.sampled for fake in fakes) > before + 150)
            fakes[0].failing_updates = version % 3 == 0
            await sync.update(WEIGHTS, version)
        for one in many:
            one.enough.set()
        await asyncio.gather(*working)
        await until(lambda: all(fake.is_idle for fake in fakes))
        for one in many:
            check_against_servers(one.answered, fakes)
    assert [fake.faults for fake in fakes] == [[], []]
    assert {version_of(token) for one in many for _, _, got in one.answered for token in got.token_ids} >= {1, 2, 4}
    assert any(got.spans for one in many for _, _, got in one.answered) == (in_flight == "interrupt")


async def test_a_follower_that_hears_nothing_does_not_block_and_its_requests_end(tmp_path, monkeypatch):
    monkeypatch.setattr("swe_aem.policy.vllm._ORDER_LATE_S", 0.1)
    async with followed([fake := FakeTaggingVllm(stop_share=0.0)], tmp_path, 2, in_flight="drain") as made:
        sync, (lost, other), direct = made
        asked = asyncio.create_task(
            lost.sample(range(100), LONG.model_copy(update={"max_tokens": 10**6}), trajectory_id="t.0")
        )
        await until(lambda: any(request.tokens for request in fake.asked))
        direct.cut_off.add(direct._followers[0])
        await sync.update(WEIGHTS, 2)
        with pytest.raises(Exception, match="abort"):
            await asked
        completion = await other.sample(range(50), LONG, trajectory_id="t.1")
        assert (completion.version, {version_of(token) for token in completion.token_ids}) == (2, {2})


async def test_what_is_cut_off_before_the_order_arrives_is_continued(tmp_path):
    async with followed([fake := FakeTaggingVllm()], tmp_path, 1, in_flight="interrupt") as made:
        sync, (policy,), direct = made
        direct.late_s = 0.5
        asked = asyncio.create_task(policy.sample(range(100), LONG, trajectory_id="t.0"))
        await until(lambda: any(request.tokens for request in fake.asked))
        await sync.update(WEIGHTS, 2)
        completion = await asked
        check_against_servers([(tuple(range(100)), LONG, completion)], [fake])


async def test_one_that_opens_while_a_server_is_down_asks_the_others(tmp_path):
    fakes = [FakeTaggingVllm(), FakeTaggingVllm()]
    async with opened(fakes, tmp_path) as (leader, sync):
        await sync.update(WEIGHTS, 5)
        await fakes[0].kill()
        async with VllmPolicy(leader.config, told=leader.orders) as policy:
            completion = await policy.sample(range(50), LONG, trajectory_id="t.0")
            assert {completion.version, *map(version_of, completion.token_ids)} == {5}
            await fakes[0].restart()
            await until(lambda: policy.servers[0].out_reason is None)
