"""The recipe's configuration for the tiny policy of `swe_aem.testing.steps`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

GROUP = 4


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., Any]:
    """Makes the recipe's `GRPOConfig` for two groups a generation on the CPU, with changes."""
    trl = pytest.importorskip("trl", reason="needs the train extra")

    def make(**changes: Any) -> Any:
        settings = {
            "output_dir": str(tmp_path / "out"),
            "per_device_train_batch_size": GROUP,
            "gradient_accumulation_steps": 1,
            "steps_per_generation": 2,
            "num_generations": GROUP,
            "max_completion_length": 64,
            "max_steps": 4,
            "learning_rate": 1e-2,
            "lr_scheduler_type": "constant",
            "loss_type": "dr_grpo",
            "scale_rewards": "none",
            "epsilon_high": 0.28,
            "bf16": False,
            "gradient_checkpointing": False,
            "use_cpu": True,
            "report_to": "none",
            "logging_steps": 1,
            "save_strategy": "no",
            "disable_tqdm": True,
            "seed": 3,
        }
        return trl.GRPOConfig(**{**settings, **changes})

    return make


@pytest.fixture
def dataset() -> Any:
    """Prompts of different lengths."""
    datasets = pytest.importorskip("datasets")
    from swe_aem.testing.steps import tiny_prompts

    return datasets.Dataset.from_list(tiny_prompts(8))
