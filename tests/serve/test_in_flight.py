"""What an update does to responses in flight, against fake servers whose tokens say which weights sampled them."""

import asyncio
import random
from contextlib import asynccontextmanager

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")

from swe_aem.core import SamplingParams  # noqa: E402
from swe_aem.errors import PolicyError  # noqa: E402
from swe_aem.testing.tagging_vllm import FakeTaggingVllm, version_of  # noqa: E402
from tests.serve.tagged import PHASES, WEIGHTS, Trajectories, check_against_servers, opened  # noqa: E402
from tests.waiting import until  # noqa: E402

pytestmark = pytest.mark.torch


class Disturbances:
    """Updates, updates that a server fails to load or does not survive, and servers that are killed meanwhile."""

    def __init__(self, fakes, policy, sync, seed):
        self.updated = 1
        self._fakes, self._policy, self._sync = fakes, policy, sync
        self._random = random.Random(seed)

    async def run(self, count):
        for number in range(count):
            await self._work_in_progress()
            match number % 4:
                case 0:
                    await self._update()
                case 1:
                    self._random.choice(self._fakes).failing_updates = 1
                    await self._update()
                case 2:
                    dying = self._random.randrange(len(self._fakes))
                    self._fakes[dying].dies_at = self._random.choice(PHASES)
                    await self._update()
                    await self._return(dying)
                case 3:
                    await asyncio.gather(self._restart(), self._update())

    async def _work_in_progress(self):
        """Return when the servers have sampled some more, and have begun responses."""
        before = sum(fake.sampled for fake in self._fakes)
        await until(lambda: sum(fake.sampled for fake in self._fakes) > before + 500)
        await until(lambda: any(request.tokens for fake in self._fakes for request in fake._in_flight))

    async def _update(self):
        self.updated += 1
        await self._sync.update(WEIGHTS, self.updated)

    async def _restart(self):
        """Killed, it is away for longer than its health checks need to notice."""
        number = self._random.randrange(len(self._fakes))
        await self._fakes[number].kill()
        await self._return(number)

    async def _return(self, number):
        await until(lambda: self._policy.servers[number].out_reason)
        await self._fakes[number].restart()
        await until(lambda: self._policy.servers[number].out_reason is None)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("in_flight", ["interrupt", "drain"])
@pytest.mark.parametrize(
    ("seed", "disturbed", "least"),
    [(0, 4, 100), *(pytest.param(n, 16, 400, marks=pytest.mark.nightly) for n in range(1, 20))],
)
async def test_no_token_bears_another_version_than_sampled_it(tmp_path, seed, disturbed, least, in_flight):
    """Hundreds of responses of three servers, under updates that may fail and servers that are killed and return."""
    fakes = [FakeTaggingVllm() for _ in range(3)]
    async with opened(fakes, tmp_path, in_flight=in_flight) as (policy, sync):
        trajectories = Trajectories(policy, seed)
        disturbances = Disturbances(fakes, policy, sync, seed)
        working = asyncio.create_task(trajectories.run(40))
        await disturbances.run(disturbed)
        trajectories.enough.set()
        await working
        assert [server.slots.in_flight for server in policy.servers] == [0, 0, 0]
        await until(lambda: all(fake.is_idle for fake in fakes))
        check_against_servers(trajectories.answered, fakes)
    assert [fake.faults for fake in fakes] == [[], [], []]
    assert len(trajectories.answered) >= least
    spans = [len(completion.spans) for _, _, completion in trajectories.answered]
    assert any(spans) == (in_flight == "interrupt")


LONG = SamplingParams(max_tokens=400, seed=3)


@asynccontextmanager
async def generating(policy, *fakes, params=LONG):
    """A request of which a server has sampled some tokens."""
    asked = asyncio.create_task(policy.sample(range(100), params, trajectory_id="t.0"))
    await until(lambda: any(request.tokens for fake in fakes for request in fake.asked))
    try:
        yield asked
    finally:
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)


async def test_a_response_continues_with_the_new_weights(tmp_path):
    async with opened([fake := FakeTaggingVllm()], tmp_path) as (policy, sync):
        async with generating(policy, fake) as asked:
            for version in (2, 3):
                await sync.update(WEIGHTS, version)
                await until(lambda version=version: version in map(version_of, fake.asked[-1].tokens))
            completion = await asked
        assert [completion.version, *(span.version for span in completion.spans)] == [1, 2, 3]
        check_against_servers([(tuple(range(100)), LONG, completion)], [fake])


async def test_a_request_that_reaches_the_server_after_the_pause_is_cut_off_too(tmp_path):
    """It was on its way, so the pause did not meet it; the server holds it back until it is told again."""

    class Slow(FakeTaggingVllm):
        async def _complete(self, body):
            await until(lambda: self._paused or self.asked)
            return await super()._complete(body)

    async with opened([fake := Slow()], tmp_path) as (policy, sync):
        asked = asyncio.create_task(policy.sample(range(100), LONG, trajectory_id="t.0"))
        await until(lambda: policy.servers[0].slots.in_flight)
        await sync.update(WEIGHTS, 2)
        completion = await asked
    assert (completion.version, completion.spans) == (2, ())
    assert [request.tokens for request in fake.asked[:-1]] == [[]] * (len(fake.asked) - 1)
    assert {request.seed for request in fake.asked} == {LONG.seed}, "where nothing was sampled, nothing changes"


async def test_what_a_server_has_begun_another_one_may_end(tmp_path):
    """The server of the first part fails to load the update, and is out of rotation when the response continues."""
    fakes = [FakeTaggingVllm(), FakeTaggingVllm()]
    async with opened(fakes, tmp_path, probe_s=1000) as (policy, sync), generating(policy, *fakes) as asked:
        first, second = sorted(fakes, key=lambda fake: not fake.asked)
        first.failing_updates = 1
        await sync.update(WEIGHTS, 2)
        completion = await asked
        assert len(second.asked) == 1
        assert [completion.version, *(span.version for span in completion.spans)] == [1, 2]
        check_against_servers([(tuple(range(100)), LONG, completion)], fakes)


async def test_a_server_that_dies_in_the_middle_fails_its_request(tmp_path):
    async with opened([fake := FakeTaggingVllm()], tmp_path) as (policy, sync), generating(policy, fake) as asked:
        await sync.update(WEIGHTS, 2)
        await until(lambda: len(fake.asked) == 2 and fake.asked[1].tokens)
        await fake.kill()
        with pytest.raises(PolicyError, match=r"the request to .* failed"):
            await asked
    assert len(fake.asked) == 2


async def test_a_part_that_fills_the_context_is_the_whole_response(tmp_path):
    class Small(FakeTaggingVllm):
        """Says nothing of its context, and refuses what fills it."""

        async def _complete(self, body):
            if self.asked:
                message = "This model's maximum context length is 120 tokens."
                return 400, {"error": {"message": message, "code": 400, "type": "BadRequestError"}}
            return await super()._complete(body)

    async with opened([fake := Small()], tmp_path) as (policy, sync), generating(policy, fake) as asked:
        await sync.update(WEIGHTS, 2)
        completion = await asked
    assert completion.token_ids == tuple(fake.asked[0].tokens)
    assert (completion.finish_reason, completion.version, completion.spans) == ("length", 1, ())


async def test_all_requests_of_a_response_share_its_time(tmp_path):
    limits = []
    async with opened([fake := FakeTaggingVllm()], tmp_path, request_timeout_s=500.0) as (policy, sync):
        client = policy.servers[0].client
        sample = client.sample

        def noted(prompt_ids, params, *, trajectory_id, limit_s=None):
            limits.append(limit_s)
            return sample(prompt_ids, params, trajectory_id=trajectory_id, limit_s=limit_s)

        client.sample = noted
        async with generating(policy, fake) as asked:
            await sync.update(WEIGHTS, 2)
            await asked
    assert limits[0] == 500 > limits[1] > 0


async def test_a_cut_that_nobody_here_asked_for_is_a_failure(tmp_path):
    """Somebody else is about to change the weights, so what comes after it is of nobody knows which."""
    async with opened([fake := FakeTaggingVllm()], tmp_path) as (policy, _), generating(policy, fake) as asked:
        await policy.servers[0].control.post("/pause", limit_s=5.0, query={"mode": "abort"})
        with pytest.raises(PolicyError, match="ended the response for the reason 'abort'"):
            await asked


async def test_a_server_that_was_not_resumed_is_resumed_by_its_health_check(tmp_path):
    async with opened([fake := FakeTaggingVllm()], tmp_path) as (policy, _), generating(policy, fake) as asked:
        fake.instead["/resume"] = (500, b"{}")
        with pytest.raises(PolicyError, match=r"no server can take new weights: .* cannot be resumed"):
            async with policy.switch():
                pass
        assert fake._paused
        fake.instead.clear()
        assert len((await asked).token_ids) == LONG.max_tokens
        assert policy.unavailable_reason is None
