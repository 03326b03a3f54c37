"""What a policy that samples in the trainer's process is given, and that it is loaded beside other work."""

import asyncio
import threading
from typing import Any

import pytest

from swe_aem.core import SamplingParams
from swe_aem.errors import UserError
from swe_aem.policy import VllmPolicy
from swe_aem.rollout import Host, config
from swe_aem.testing.tagging_vllm import FakeTaggingVllm
from swe_aem.train.config import TrainConfig

pytest.importorskip("torch", reason="needs the train extra")

from swe_aem.train.models import load_model
from swe_aem.train.policies import LoadedLater, open_policy, sampled_together

GIB = 1 << 30
MODEL = "configs/quickstart/policy"
SAMPLING = SamplingParams(max_tokens=2, seed=0)
LARGE = Host(processors=192, memory_bytes=2000 * GIB, disk_bytes={}, open_files=1 << 20)


def rows(host: Host, monkeypatch: pytest.MonkeyPatch, **scheduling: int) -> int:
    monkeypatch.setattr(config, "this_host", lambda: host)
    rollout = {"group_size": 4, "scheduling": scheduling}
    values = {"model": "m", "steps": 2, "groups_per_step": 4, "rollout": rollout}
    return sampled_together(TrainConfig.model_validate(values))


def test_a_host_of_many_processors_alone_makes_no_batch_of_hundreds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rows(LARGE, monkeypatch) == 64
    assert rows(LARGE._replace(processors=2), monkeypatch) == 8
    assert rows(LARGE, monkeypatch, concurrency=128) == 128


async def test_slots_of_servers_begin_with_their_share_of_the_agents() -> None:
    async with FakeTaggingVllm() as one, FakeTaggingVllm() as other:
        rollout = {"group_size": 4, "scheduling": {"concurrency": 90}}
        values = {"model": "m", "steps": 2, "groups_per_step": 4, "rollout": rollout}
        trained = TrainConfig.model_validate({**values, "servers": {"urls": [one.url, other.url]}})
        async with open_policy(trained, lambda: None) as (policy, _):
            assert isinstance(policy, VllmPolicy)
            assert [server.slots.limit for server in policy.servers] == [45, 45]


def in_this_process() -> TrainConfig:
    return TrainConfig.model_validate({"model": MODEL, "steps": 2, "groups_per_step": 4, "rollout": {"group_size": 4}})


async def test_whoever_samples_waits_for_the_model_and_nobody_else_does() -> None:
    go = threading.Event()

    def model() -> Any:
        go.wait()
        return load_model(MODEL)

    async with open_policy(in_this_process(), model) as (policy, versioned):
        assert isinstance(policy, LoadedLater)
        assert (policy.name, versioned.version) == ("policy", 0)
        sampling = asyncio.create_task(policy.sample([5, 6], SAMPLING, trajectory_id="t"))
        gone = asyncio.create_task(policy.sample([5, 6], SAMPLING, trajectory_id="u"))
        await asyncio.sleep(0)
        gone.cancel()
        assert not sampling.done()
        go.set()
        assert len((await sampling).token_ids) == 2
        assert (await policy.loaded()).version == 0


async def test_closing_does_not_wait_for_a_model_that_is_still_loaded() -> None:
    go = threading.Event()
    try:
        async with open_policy(in_this_process(), go.wait) as (policy, _):
            assert isinstance(policy, LoadedLater)
            sampling = asyncio.create_task(policy.sample([5], SAMPLING, trajectory_id="t"))
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await sampling
    finally:
        go.set()  # nothing ends while a thread waits


async def test_a_model_that_cannot_be_loaded_is_said_to_all_who_wait() -> None:
    def model() -> Any:
        raise UserError("no model")

    async with open_policy(in_this_process(), model) as (policy, _):
        assert isinstance(policy, LoadedLater)
        for waiting in (policy.loaded(), policy.sample([5], SAMPLING, trajectory_id="t")):
            with pytest.raises(UserError, match="no model"):
                await waiting
