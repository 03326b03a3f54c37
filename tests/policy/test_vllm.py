"""Which server gets a request, and what a fault of one means, against simulated servers over real sockets."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from swe_aem.core import SamplingParams, unavailable_reason
from swe_aem.errors import PolicyError, UserError
from swe_aem.policy.errors import NothingSampled
from swe_aem.policy.requests import CompletionsServers
from swe_aem.policy.vllm import VllmClientConfig, VllmPolicy, open_served
from swe_aem.policy.vllm_control import read_load
from swe_aem.testing.vllm import SimulatedVllm
from tests.waiting import until

PARAMS = SamplingParams(max_tokens=16, stop_token_ids=(258,))
QUICK = {"probe_s": 0.05, "probe_limit_s": 0.5, "probes_until_down": 2, "patience_s": 2.0, "stall_s": 0.5}


@asynccontextmanager
async def opened(*servers, **changes):
    async with VllmPolicy(
        VllmClientConfig(urls=tuple(server.url for server in servers), **(QUICK | changes))
    ) as policy:
        yield policy


async def ask(policy, trajectory="t.0"):
    return await policy.sample([1, 2, 3], PARAMS, trajectory_id=trajectory)


async def test_a_trajectory_stays_and_new_ones_go_where_there_is_room():
    one, two = SimulatedVllm(latency_s=lambda body: 0.1), SimulatedVllm(latency_s=lambda body: 0.1)
    async with one, two, opened(one, two) as policy:
        for _ in range(3):
            await asyncio.gather(*(ask(policy, f"t.{n}") for n in range(10)))
    assert len(one.requests) == 3 * one.most_running
    assert len(two.requests) == 3 * two.most_running
    assert one.most_running + two.most_running == 10
    assert max(one.most_running, two.most_running) <= 7  # a quarter more than its share, and one


async def test_requests_have_seeds_of_their_own_over_all_servers():
    async with SimulatedVllm() as one, SimulatedVllm() as two, opened(one, two) as policy:
        await asyncio.gather(*(ask(policy, f"t.{n}") for n in range(20)))
    seeds = [request["seed"] for request in (*one.requests, *two.requests)]
    assert len(set(seeds)) == 20


async def test_what_was_not_sampled_goes_elsewhere():
    """A server that is gone costs nothing but a moment."""
    async with SimulatedVllm() as stays, SimulatedVllm() as gone, opened(stays, gone) as policy:
        await asyncio.gather(ask(policy, "a"), ask(policy, "b"))
        gone._listener.close()
        gone.statuses = [503] * 100
        found = await asyncio.gather(*(ask(policy, name) for name in ("a", "b", "c", "d")))
    assert len(found) == 4
    assert len(stays.requests) >= 4


async def test_an_error_after_sampling_is_not_tried_again():
    async with SimulatedVllm() as server, opened(server) as policy:
        server.statuses = [500]
        with pytest.raises(PolicyError, match="answers 500: asked for by a test"):
            await ask(policy)
        assert server.requests == []
        assert (await ask(policy)).token_ids[-1] == 258


async def test_a_server_that_answers_nothing_is_given_up_with_what_is_in_flight():
    async with SimulatedVllm(latency_s=lambda body: 100) as server, opened(server) as policy:
        request = asyncio.create_task(ask(policy))
        await until(lambda: server.running)
        server.well = False
        with pytest.raises(PolicyError, match="given up"):
            await request
        assert policy.servers[0].slots.in_flight == 0


async def test_a_stuck_engine_behind_a_healthy_port_is_given_up():
    async with SimulatedVllm() as server, opened(server) as policy:
        server.stuck = True
        with pytest.raises(PolicyError, match="made no token"):
            await ask(policy)


async def test_a_stuck_engine_stays_out_until_it_makes_a_token():
    """That nothing of ours is in flight there, for it was given up, is no sign of life."""
    async with SimulatedVllm() as server, opened(server) as policy:
        server.stuck = True
        with pytest.raises(PolicyError, match="made no token"):
            await ask(policy)
        faults = set()
        for _ in range(10):
            await asyncio.sleep(0.05)
            faults.add(policy.servers[0].out_reason)
        assert None not in faults
        server.stuck = False
        server.sampled += 1
        assert (await ask(policy)).token_ids[-1] == 258


async def test_a_switch_that_takes_long_is_no_stall():
    async with SimulatedVllm(latency_s=lambda body: 0.2) as server, opened(server) as policy:
        await until(lambda: policy.servers[0].last_load)
        async with policy.switch():
            server.running += 1
            waiting = asyncio.create_task(ask(policy))
            await asyncio.sleep(2 * QUICK["stall_s"])
        assert await waiting


async def test_patience_is_for_servers_and_not_for_slots():
    """A request that queued for longer than the patience meets a refusal, and is sent again."""
    server = SimulatedVllm(latency_s=lambda body: 0.6)
    async with server, opened(server, patience_s=0.4, probe_s=60) as policy:
        policy.servers[0].slots.resize(1)
        first = asyncio.create_task(ask(policy))
        await until(lambda: server.running)
        second = asyncio.create_task(ask(policy))
        server.statuses = [503]
        assert await first
        assert await second
        assert server.statuses == []


async def test_a_server_that_refuses_is_what_a_request_waits_for():
    async with SimulatedVllm() as server, opened(server) as policy:
        server.statuses = [503] * 1000
        refused = asyncio.create_task(policy.sample([5], PARAMS, trajectory_id="t.0"))
        await until(lambda: "503" in str(unavailable_reason(policy, "t.0")))
        refused.cancel()
        await asyncio.gather(refused, return_exceptions=True)
        assert "503" in str(unavailable_reason(policy, "t.0")), "a deadline asks after the request is cancelled"
        server.statuses = []
        await policy.sample([5], PARAMS, trajectory_id="t.0")
        assert unavailable_reason(policy, "t.0") is None


async def test_patience_ends_with_the_refusals():
    async with SimulatedVllm() as server, opened(server, patience_s=0.5) as policy:
        server.statuses = [503] * 1000
        with pytest.raises(NothingSampled, match="asked for by a test"):
            await ask(policy)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/metrics", b'vllm:num_requests_running{engine="0"} none\n'),
        ("/v1/models", b"<html>"),
        ("/v1/models", b"[]"),
        ("/v1/models", b'{"data": []}'),
        ("/v1/models", b'{"data": ["policy"]}'),
        ("/weight_info", b"<html>"),
        ("/weight_info", b"{}"),
    ],
)
async def test_a_look_that_meets_an_odd_answer_is_a_missed_one(path, answer):
    """And the next one finds the server well."""
    async with SimulatedVllm() as server, opened(server) as policy:
        server.instead[path] = (200, answer)
        await until(lambda: policy.servers[0].out_reason)
        assert "gave an answer that vLLM does not give" in policy.servers[0].out_reason
        server.instead.clear()
        assert await ask(policy)


async def test_a_version_that_is_not_told_for_a_moment_is_not_another_one():
    async with SimulatedVllm() as server, opened(server, probes_until_down=1000) as policy:
        server.instead["/weight_info"] = (503, b"")
        await until(lambda: policy.servers[0].failed_checks > 2)
        assert policy.servers[0].out_reason is None
        with pytest.raises(PolicyError, match="weight_info answers 503"):
            await policy.servers[0].control.served_model()
        server.instead["/weight_info"] = (404, b"")
        assert (await policy.servers[0].control.served_model()).weights is None


async def test_other_weights_than_expected_are_never_sampled_from():
    async with SimulatedVllm() as server, opened(server) as policy:
        await ask(policy)
        server.weights = "of another trainer"
        await until(lambda: policy.servers[0].out_reason)
        with pytest.raises(PolicyError, match="restarted with other weights"):
            await ask(policy)
        assert len(server.requests) == 1
        server.weights = "default"
        assert await ask(policy)


async def test_nothing_is_in_flight_inside_a_switch_and_what_arrives_waits():
    async with SimulatedVllm(latency_s=lambda body: 0.2) as server, opened(server) as policy:
        before = asyncio.create_task(ask(policy, "before"))
        await until(lambda: server.running)
        async with policy.switch() as servers:
            assert before.done() or policy.servers[0].slots.in_flight == 0
            after = asyncio.create_task(ask(policy, "after"))
            await asyncio.sleep(0.1)
            assert server.running == 0
            server.weights = "new"
            servers[0].expect(servers[0].expected.model_copy(update={"weights": "new"}), version=7, name=policy.name)
        assert ((await before).version, (await after).version) == (0, 7)


async def test_cancelling_gives_the_slot_back():
    async with SimulatedVllm(latency_s=lambda body: 100) as server, opened(server) as policy:
        request = asyncio.create_task(ask(policy))
        await until(lambda: server.running)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert policy.servers[0].slots.in_flight == 0


async def test_a_key_reaches_requests_and_health_checks(monkeypatch):
    monkeypatch.setenv("SERVER_KEY", "abc-0123456789")
    async with SimulatedVllm() as server:
        server.key = "abc-0123456789"
        async with opened(server, api_key_env="SERVER_KEY") as policy:
            await ask(policy)
            await until(lambda: policy.servers[0].last_load)
            assert policy.unavailable_reason is None
        with pytest.raises(UserError, match="name the environment variable that holds the key with --api-key-env"):
            async with open_served(CompletionsServers(url=server.url)):
                pass
        with pytest.raises(UserError, match="does not serve the model m; it serves"):
            async with open_served(CompletionsServers(url=server.url, model="m", api_key_env="SERVER_KEY")):
                pass


async def test_several_urls_and_one_that_is_missing():
    one, two = SimulatedVllm(top_logprobs=True), SimulatedVllm(top_logprobs=True)
    async with one, two, AsyncExitStack() as stack:
        urls = f"{one.url},{two.url}"
        policy = await stack.enter_async_context(open_served(CompletionsServers(url=urls)))
        assert isinstance(policy, VllmPolicy)
        assert (await ask(policy)).entropy_estimator == "surprisal"
        policy = await stack.enter_async_context(open_served(CompletionsServers(url=urls, top_logprobs=20)))
        assert (await ask(policy)).entropy_estimator == "top20"
    with pytest.raises(UserError, match="no completions server at"):
        async with open_served(CompletionsServers(url="http://127.0.0.1:9,http://127.0.0.1:10")):
            pass


def test_figures_of_several_engines_add_up():
    metrics = (
        '# HELP x\nvllm:num_requests_running{engine="0",model_name="p"} 3.0\n'
        'vllm:num_requests_running{engine="1",model_name="p"} 4.0\nvllm:kv_cache_usage_perc{engine="0"} 0.25\nother 1\n'
    )
    load = read_load(metrics)
    assert (load.running, load.waiting, load.cache_usage) == (7, 0, 0.25)


async def test_only_without_any_server_is_the_policy_at_fault():
    async with SimulatedVllm() as one, SimulatedVllm() as two, opened(one, two) as policy:
        assert unavailable_reason(policy) is None
        one.well = False
        await until(lambda: policy.servers[0].out_reason)
        assert unavailable_reason(policy) is None
        two.well = False
        await until(lambda: unavailable_reason(policy))
        assert all(url in unavailable_reason(policy) for url in (one.url, two.url))
