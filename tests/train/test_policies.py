"""What a policy that samples in the trainer's process is given."""

import pytest

from swe_aem.policy import VllmPolicy
from swe_aem.rollout import Host, config
from swe_aem.testing.tagging_vllm import FakeTaggingVllm
from swe_aem.train.config import TrainConfig

pytest.importorskip("torch", reason="needs the train extra")

from swe_aem.train.policies import open_policy, sampled_together

GIB = 1 << 30
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
        async with open_policy(trained, lambda: None, "policy") as (policy, _):
            assert isinstance(policy, VllmPolicy)
            assert [server.slots.limit for server in policy.servers] == [45, 45]
