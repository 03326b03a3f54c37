"""Policy and weight sync on a real vLLM server: the same numbers as transformers, and never another version's."""

import asyncio
import itertools
import random
import re

import httpx
import pytest

from swe_aem.core import SamplingParams
from swe_aem.errors import PolicyError
from swe_aem.policy import ContextOverflow, VllmClientConfig, VllmPolicy
from swe_aem.policy.errors import Aborted
from swe_aem.train.planning.memory import cache_bytes_per_token
from swe_aem.train.planning.shapes import shape_of
from tests.conftest import QUICKSTART

pytestmark = [
    pytest.mark.vllm, pytest.mark.torch, pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.contract(vllm=True)
]  # fmt: skip

TOLERANCE = 1e-4
BLOCK = 128
"""Tokens of a block of the prefix cache."""


def prompt_of(length, seed=0):
    return random.Random(seed).choices(range(20, 690), k=length)


def params(seed, max_tokens=24, **changes):
    return SamplingParams(max_tokens=max_tokens, seed=seed, **changes)


def agree(completion, expected):
    return max(abs(a - b) for a, b in zip(completion.logprobs, expected, strict=True)) < TOLERANCE


async def metrics(policy):
    async with httpx.AsyncClient() as client:
        return (await client.get(f"{policy.servers[0].url}/metrics")).text


async def finished(policy):
    """Requests that the server has answered whole; those that it was told to drop are not among them."""
    lines = (await metrics(policy)).splitlines()
    successes = (line for line in lines if line.startswith("vllm:request_success_total{"))
    return sum(float(line.rpartition(" ")[2]) for line in successes)


async def test_a_servers_cache_holds_what_the_formula_of_memory_says(policy):
    """The shared server has 1 GiB of cache in float32, in whole blocks, which it reports in sequences of its longest
    length."""
    said = await metrics(policy)
    sequences = float(re.search(r'kv_cache_max_concurrency="([\d.]+)"', said)[1])
    block = int(re.search(r'[{,]block_size="(\d+)"', said)[1])
    per_token = cache_bytes_per_token(shape_of(str(QUICKSTART)), "float32")
    assert sequences * 1024 == 2**30 // (block * per_token) * block


@pytest.mark.parametrize("temperature", [1.0, 0.7])
async def test_logprobs_are_those_of_transformers(policy, sync, model, logprobs_of, temperature):
    await sync.update(model.state_dict(), 0)
    for length in (1, 40, 300, 700):
        completion = await policy.sample(prompt_of(length), params(length, temperature=temperature), trajectory_id="a")
        assert agree(completion, logprobs_of(model, prompt_of(length), completion.token_ids, temperature))
        assert completion.entropy_estimator == "top20"
        assert all(value >= 0 for value in completion.entropies)


async def test_an_update_never_meets_the_old_weights_cache(policy, sync, model, other, logprobs_of):
    """The prompt is longer than two blocks, so its cached prefix would be used again if nothing emptied the cache."""
    prompt = prompt_of(5 * BLOCK, seed=1)
    await sync.update(model.state_dict(), 1)
    first = await policy.sample(prompt, params(1), trajectory_id="a")
    again = await policy.sample(prompt, params(1), trajectory_id="a")
    assert first.token_ids == again.token_ids
    changed = other(1)
    await sync.update(changed.state_dict(), 2)
    second = await policy.sample(prompt, params(1), trajectory_id="a")
    assert (first.version, second.version) == (1, 2)
    assert agree(first, logprobs_of(model, prompt, first.token_ids))
    assert agree(second, logprobs_of(changed, prompt, second.token_ids))
    assert not agree(second, logprobs_of(model, prompt, second.token_ids))


@pytest.mark.parametrize(("trajectories", "versions"), [(8, 3), pytest.param(32, 5, marks=pytest.mark.nightly)])
async def test_updates_under_trajectories(policy, sync, other, logprobs_of, trajectories, versions):
    """Every response is wholly of the version that it bears, while versions come and agents keep asking."""
    models = {version: other(version) for version in range(1, versions + 1)}
    await sync.update(models[1].state_dict(), 1)
    found = []
    stop = asyncio.Event()

    async def trajectory(number):
        turn = 0
        while not stop.is_set():
            prompt = prompt_of(300, seed=number) + prompt_of(10 * turn, seed=1000 + number)
            completion = await policy.sample(prompt, params(100 * number + turn, 32), trajectory_id=f"t.{number}")
            found.append((prompt, completion))
            turn = (turn + 1) % 8

    agents = [asyncio.create_task(trajectory(number)) for number in range(trajectories)]
    for version in range(2, versions + 1):
        await asyncio.sleep(1.5)
        await sync.update(models[version].state_dict(), version)
    await asyncio.sleep(1.5)
    stop.set()
    await asyncio.gather(*agents)
    assert {completion.version for _, completion in found} == set(models)
    for prompt, completion in found:
        assert agree(completion, logprobs_of(models[completion.version], prompt, completion.token_ids))


async def sampled_tokens(policy):
    """Tokens that the server has generated since it started."""
    lines = (await metrics(policy)).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("vllm:generation_tokens_total{"))


@pytest.fixture
async def interrupting(vllm_url, tmp_path):
    """A policy whose responses in flight an update interrupts, and the sync."""
    from swe_aem.serve.sync import WeightSync
    from swe_aem.serve.transport import FileTransport
    from tests.serve.updating import Updating

    config = VllmClientConfig(urls=(vllm_url,), in_flight="interrupt", probe_s=1000)
    async with VllmPolicy(config) as policy:
        sync = Updating(WeightSync(policy), FileTransport(tmp_path / "interrupting"))
        await sync.open()
        yield policy, sync
        await sync.close()


async def test_updates_in_the_middle_of_responses(interrupting, other, logprobs_of):
    """Each span is of the weights of its version, after all that was sampled before it, and of no other's."""
    policy, sync = interrupting
    models = {version: other(version) for version in (1, 2, 3)}
    await sync.update(models[1].state_dict(), 1)
    answered, done = [], asyncio.Event()

    async def ask(number):
        prompt = prompt_of(300 + number, seed=number)
        for seed in itertools.count(number, 4):
            answered.append((prompt, await policy.sample(prompt, params(seed, 600), trajectory_id=f"t.{number}")))
            if done.is_set():
                return

    asking = [asyncio.create_task(ask(number)) for number in range(4)]
    for version in (2, 3):
        before = await sampled_tokens(policy)
        while await sampled_tokens(policy) < before + 400:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await sync.update(models[version].state_dict(), version)
    done.set()
    await asyncio.gather(*asking)
    assert {span.version for _, completion in answered for span in completion.spans} == {2, 3}
    for prompt, completion in answered:
        assert len(completion.token_ids) == len(completion.entropies) == 600
        versions = [completion.version, *(span.version for span in completion.spans)]
        starts = [0, *(span.start for span in completion.spans)]
        for version, start, end in zip(versions, starts, [*starts[1:], 600], strict=True):
            prefix, tokens = [*prompt, *completion.token_ids[:start]], completion.token_ids[start:end]
            said = completion.logprobs[start:end]
            for of, model in models.items():
                exact = logprobs_of(model, prefix, tokens)
                apart = max(abs(a - b) for a, b in zip(said, exact, strict=True))
                assert (apart < TOLERANCE) == (of == version)


async def test_a_request_that_meets_a_pause_is_cut_off_by_a_later_one(interrupting):
    """vLLM holds it back, and would sample it with whatever weights it has then."""
    policy, _ = interrupting
    server = policy.servers[0]
    await server.interrupt()
    asked = asyncio.create_task(server.sample(prompt_of(300), params(1), "t.0", 300.0))
    while not asked.done():
        await asyncio.sleep(0.1)
        await server.interrupt()
    with pytest.raises(Aborted) as caught:
        await asked
    assert caught.value.sampled is None
    await server.resume()
    assert (await policy.sample(prompt_of(300), params(1), trajectory_id="t.0")).token_ids


@pytest.mark.parametrize(
    "spoil",
    [
        lambda weights: {"no.such.layer": weights["model.norm.weight"]},
        lambda weights: weights | {"model.norm.weight": weights["model.norm.weight"][:5]},
        lambda weights: {name: tensor for name, tensor in weights.items() if "layers.1." not in name},
    ],
    ids=["unknown", "shape", "missing"],
)
async def test_an_update_that_fails_leaves_both_on_the_old_version(policy, sync, model, other, logprobs_of, spoil):
    await sync.update(model.state_dict(), 3)
    with pytest.raises(PolicyError, match="continue with the old"):
        await sync.update(spoil(dict(other(3).state_dict())), 4)
    completion = await policy.sample(prompt_of(300), params(5), trajectory_id="a")
    assert completion.version == 3
    assert agree(completion, logprobs_of(model, prompt_of(300), completion.token_ids))
    await sync.update(other(5).state_dict(), 5)
    assert (await policy.sample(prompt_of(300), params(5), trajectory_id="a")).version == 5


async def test_a_full_context_is_no_failure(policy):
    with pytest.raises(ContextOverflow):
        await policy.sample(prompt_of(1024), params(1), trajectory_id="a")


async def test_only_the_stop_tokens_of_a_request_end_it(policy, sync, model):
    """The model's configuration has a token that ends texts, which the server would end a response at by itself."""
    ends = set(model.generation_config.eos_token_id)
    await sync.update(model.state_dict(), 0)
    whole = await policy.sample(prompt_of(20), params(1, 1000), trajectory_id="a")
    assert (whole.finish_reason, len(whole.token_ids)) == ("length", 1000)
    first = min(place for place, token in enumerate(whole.token_ids) if token in ends)
    stopping = params(1, 1000, stop_token_ids=tuple(ends))
    stopped = await policy.sample(prompt_of(20), stopping, trajectory_id="a")
    assert stopped.finish_reason == "stop"
    assert stopped.token_ids == whole.token_ids[: first + 1]


async def test_cancelled_requests_end_generation(policy, agents):
    """The server comes to rest although it has not answered all that it was asked."""
    before = await finished(policy)
    several = agents(policy)
    await several.generating()
    several.cancel()
    assert {type(one) for one in await several.ended()} == {asyncio.CancelledError}
    await several.generating(False)
    assert await finished(policy) - before < several.asked
    assert policy.servers[0].slots.in_flight == 0


async def test_adapters_by_versioned_names(policy, sync, model, logprobs_of, tmp_path):
    """While one adapter answers, the next one is loaded; each response is of the adapter that it asked for."""
    import copy

    import torch
    from peft import LoraConfig, get_peft_model

    from swe_aem.serve.adapter_sync import AdapterSync
    from swe_aem.serve.transport import AdapterTransport
    from tests.serve.updating import Updating

    await sync.update(model.state_dict(), 0)
    config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(copy.deepcopy(model), config)
    adapters = Updating(AdapterSync(policy), AdapterTransport(tmp_path / "adapters", config))
    await adapters.open()
    for version in (1, 2, 3):
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "lora_" in name:
                    parameter.normal_(std=0.05, generator=torch.Generator().manual_seed(version))
        weights = {name: tensor for name, tensor in adapted.state_dict().items() if "lora_" in name}
        await adapters.update(weights, version)
        completion = await policy.sample(prompt_of(300), params(7), trajectory_id="a")
        assert completion.version == version
        assert agree(completion, logprobs_of(adapted, prompt_of(300), completion.token_ids))
        assert not agree(completion, logprobs_of(model, prompt_of(300), completion.token_ids))
