"""From a `TrainConfig` to TRL's `GRPOConfig`: the recipe, and the batch sizes of a step."""

from pathlib import Path
from typing import Any

from swe_aem.errors import UserError
from swe_aem.train.config import TrainConfig
from swe_aem.train.models import on_cpu
from swe_aem.train.trl_config import recipe


def batch_sizes(config: TrainConfig, processes: int) -> dict[str, int]:
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
    if config.token_budget is not None:  # the trainer makes micro-steps out of a whole minibatch
        slices, accumulated, size = config.num_minibatches, 1, accumulated
    else:
        size = config.micro_batch_size
    return {
        "per_device_train_batch_size": size,
        "steps_per_generation": slices,
        "gradient_accumulation_steps": accumulated,
        "num_generations": config.rollout.group_size,
    }


def grpo_arguments(config: TrainConfig, directory: Path, processes: int) -> dict[str, Any]:
    """Arguments of `GRPOConfig`."""
    updates = config.num_minibatches
    return {
        **recipe(config.grpo),
        **batch_sizes(config, processes),
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
        "ddp_timeout": config.collective_timeout_s,
        "disable_tqdm": True,
        "report_to": "none",  # `Trackers` reports
        "seed": config.seed,
        "use_cpu": on_cpu(config.device),
    }
