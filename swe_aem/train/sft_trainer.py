"""TRL's `SFTTrainer` with checkpoints like those of reinforcement learning, and its arguments from an `SFTConfig`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl.trainer.sft_config import SFTConfig as TrainerConfig
from trl.trainer.sft_trainer import SFTTrainer

from swe_aem.train.checkpointed import CheckpointedTrainer
from swe_aem.train.sft import SFTConfig


class SupervisedTrainer(CheckpointedTrainer, SFTTrainer):
    """Trains on rows of token ids and labels."""


def supervised_trainer(
    policy: Any,
    processing: Any,
    rows: Sequence[dict[str, list[int]]],
    folder: Path,
    config: SFTConfig,
    *,
    cpu: bool,
) -> SupervisedTrainer:
    """The trainer of a loaded model. `folder` is that of the checkpoints."""
    micro = config.micro_batch_size or config.batch_size
    steps = len(rows) / config.batch_size * config.epochs
    arguments = TrainerConfig(
        output_dir=str(folder),
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=config.batch_size // micro,
        lr_scheduler_type="cosine",
        warmup_steps=round(config.warmup_share * steps),
        weight_decay=0.0,
        bf16=config.bf16,
        gradient_checkpointing=config.gradient_checkpointing,
        max_length=None,
        packing=False,
        save_steps=config.save_every,
        save_total_limit=2,
        logging_steps=20,
        report_to="none",
        seed=config.seed,
        use_cpu=cpu,
    )
    return SupervisedTrainer(
        model=policy,
        args=arguments,
        train_dataset=Dataset.from_list(list(rows)),
        processing_class=processing,
    )
