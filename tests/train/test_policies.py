"""What a policy that samples in the trainer's process is given."""

import pytest

from swe_aem.rollout import Host, config
from swe_aem.train.config import TrainConfig

pytest.importorskip("torch", reason="needs the train extra")

from swe_aem.train.policies import sampled_together

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
