"""The recipe's `GRPOConfig` for the tiny policy of `swe_aem.testing.steps`. Needs trl."""

from pathlib import Path
from typing import Any

from trl import GRPOConfig

GROUP = 4


def tiny_config(out: Path | str, **changes: Any) -> GRPOConfig:
    """Two groups a generation on the CPU, with changes; writes below `out`, and logs nowhere else."""
    settings = {
        "output_dir": str(out),
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
    return GRPOConfig(**{**settings, **changes})
