"""From a `TrainConfig` to TRL's `GRPOConfig`: GRPO++ (DeepSWE) as the preset, and the batch sizes of a step.

GRPO++: clip 0.2 / 0.28 (DAPO's clip-higher), no KL and so no reference model, no division by the standard deviation and
a constant length normalisation (Dr. GRPO), leave-one-out baseline and compact filtering (not settings
of TRL), no entropy bonus.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from swe_aem.errors import UserError
from swe_aem.train.config import TrainConfig
from swe_aem.train.models import on_cpu

GRPO_PLUS_PLUS: dict[str, Any] = {
    "loss_type": "dr_grpo",
    "scale_rewards": "none",
    "epsilon": 0.2,
    "epsilon_high": 0.28,
    "beta": 0.0,
    "mask_truncated_completions": False,
    "learning_rate": 1e-6,
    "lr_scheduler_type": "constant",
    "bf16": False,
    "gradient_checkpointing": False,
    "log_completions": False,
}
"""Defaults that `grpo:` in a configuration replaces."""

DDP_TIMEOUT_S = 24 * 3600
"""Other processes wait in a collective while the first one rolls out. Hangs are caught by the trajectories' own
deadlines."""


def deal(config: TrainConfig, processes: int) -> dict[str, int]:
    """Batch sizes as `GRPOConfig` names them. Raises `UserError` if a step's rows cannot be split evenly."""
    rows = config.groups_per_step * config.rollout.group_size
    slices, rest = divmod(rows, processes * config.micro_batch_size)
    accumulated, uneven = divmod(slices, config.num_minibatches)
    if rest or uneven or not accumulated:
        raise UserError(
            f"groups_per_step * rollout.group_size = {rows} rows cannot be split over {processes} processes, "
            f"num_minibatches {config.num_minibatches} and micro_batch_size {config.micro_batch_size}: make the "
            "product of the last three a divisor of the rows"
        )
    return {
        "per_device_train_batch_size": config.micro_batch_size,
        "steps_per_generation": slices,
        "gradient_accumulation_steps": accumulated,
        "num_generations": config.rollout.group_size,
    }


def grpo_arguments(config: TrainConfig, directory: Path, processes: int) -> dict[str, Any]:
    """Arguments of `GRPOConfig`; raises `UserError` for a field that it does not have."""
    from dataclasses import fields

    from trl.trainer.grpo_config import GRPOConfig

    known = {field.name for field in fields(GRPOConfig) if field.init}
    if unknown := sorted(config.grpo.keys() - known):
        raise UserError(f"grpo.{unknown[0]}: TRL's GRPOConfig has no such field")
    updates = config.num_minibatches
    return {
        **GRPO_PLUS_PLUS,
        **config.grpo,
        **deal(config, processes),
        "output_dir": str(directory),
        "max_steps": config.steps * updates,
        "save_strategy": "steps",
        "save_steps": config.save_every * updates,
        "save_total_limit": 2,
        "logging_steps": updates,
        "temperature": config.rollout.native.temperature,
        "max_completion_length": config.rollout.native.max_context_tokens,
        "shuffle_dataset": False,
        "ignore_data_skip": True,
        "ddp_timeout": DDP_TIMEOUT_S,
        "disable_tqdm": True,
        "report_to": reporters(config),
        "seed": config.seed,
        "use_cpu": on_cpu(config.device),
    }


def reporters(config: TrainConfig) -> list[str]:
    """Trackers that get the metrics in addition to metrics.jsonl."""
    if config.report_to is not None:
        return list(config.report_to)
    return ["trackio"] if find_spec("trackio") else []
