"""Rollouts in a process of their own that sample from a given server: `rollouts.py URL OUT` asks for step 1 and prints
the id of that process first."""

import sys
from pathlib import Path
from typing import Any

from swe_aem.train.config import TrainConfig, read_config
from swe_aem.train.rollout_process import RolloutProcess

SETTINGS = (
    "steps=2", "groups_per_step=1", "oversampled_groups=null", "num_minibatches=1", "micro_batch_size=4",
    "rollout.group_size=4", "rollout.limit=1", "heldout=null",
)  # fmt: skip


def configuration(url: str) -> TrainConfig:
    """Steps of one group of four."""
    return read_config(Path("configs/quickstart.yaml"), [*SETTINGS, f"servers.urls=[{url}]"])


def no_model() -> Any:
    """In place of what copies a model: servers sample."""
    raise AssertionError("a model is asked for")


if __name__ == "__main__":
    with RolloutProcess(configuration(sys.argv[1]), Path(sys.argv[2]), no_model) as rollouts:
        print(rollouts.pid, flush=True)
        rollouts.step(1)
