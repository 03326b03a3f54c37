"""`CheckpointedTrainer`: has a trainer of transformers write checkpoints with a `CheckpointWriter`.

It resumes from one as it was when that was written, with the experts of a mixture and the random state.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME, TRAINING_ARGS_NAME, Trainer
from transformers.trainer_callback import TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from swe_aem.train.checkpoint_writer import CheckpointWriter, Later
from swe_aem.train.weight_stream import tied_names


class CheckpointedTrainer(Trainer):
    """Comes before the trainer whose checkpoints it writes. Files, names and contents are those of transformers and
    accelerate, whether training waits for them or not."""

    checkpoint_writer: CheckpointWriter | None = None
    """None: as transformers writes them."""
    _saving = False
    _later: Later | None = None

    def train_from(self, checkpoint: Path | None) -> Any:
        """Train to the end from a checkpoint, as if no process had ended there, or from the beginning; what `train`
        returns."""
        if checkpoint is None:
            return self.train()
        self.add_callback(_RestoreRngState(lambda: self._load_rng_state(str(checkpoint))))
        return self.train(resume_from_checkpoint=str(checkpoint))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Override of transformers' method, which leaves the experts of a mixture as they were before training."""
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        _load_converted(self.model if model is None else model, Path(resume_from_checkpoint))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        writer = self.checkpoint_writer
        if writer is None:
            super()._save_checkpoint(model, trial)
            return
        with writer.saving(f"checkpoint-{self.state.global_step}") as later:
            self._saving, self._later = True, later
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._saving, self._later = False, None

    def _get_output_dir(self, trial: Any) -> str:
        """Override of transformers' method: where the directory of a checkpoint is made."""
        if self._saving and self.checkpoint_writer is not None:
            return str(self.checkpoint_writer.unfinished)
        return super()._get_output_dir(trial)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Override of transformers' method, which writes a whole model: the weights are written later."""
        later = self._later
        if later is None or output_dir is None or state_dict is not None:
            super()._save(output_dir, state_dict)
            return
        args: Any = self.args
        if not args.should_save:
            return
        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        processing: Any = self.processing_class
        processing.save_pretrained(output_dir)
        torch.save(args, folder / TRAINING_ARGS_NAME)
        model: Any = self.accelerator.unwrap_model(self.model)
        later.do(partial(model.save_pretrained, output_dir, state_dict=later.staged(_saved_weights(model))))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Override of transformers' method: what is large is written later."""
        later = self._later
        if later is None or self.is_deepspeed_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        args: Any = self.args
        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        optimizer: Any = self.optimizer
        if self.is_fsdp_enabled:
            self._save_shards(later, folder)
        elif args.should_save:
            later.do(partial(torch.save, later.staged(optimizer.state_dict()), folder / OPTIMIZER_NAME))
        if args.should_save:
            scheduler: Any = self.lr_scheduler
            torch.save(scheduler.state_dict(), folder / SCHEDULER_NAME)

    def _save_shards(self, later: Later, folder: Path) -> None:
        """Put off what accelerate's `save_fsdp_model` and `save_fsdp_optimizer` write."""
        from accelerate.utils.constants import FSDP_MODEL_NAME
        from accelerate.utils.constants import OPTIMIZER_NAME as OPTIMIZER
        from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_optimizer_state_dict

        model: Any = self.model
        optimizer: Any = self.optimizer
        shards = later.staged({
            FSDP_MODEL_NAME: {"model": get_model_state_dict(model)},
            OPTIMIZER: {"optimizer": get_optimizer_state_dict(model, optimizer)},
        })  # fmt: skip
        for name, state in shards.items():
            directory = folder / f"{name}_0"
            directory.mkdir(exist_ok=True)
            later.do(partial(_write_shards, state, directory, later.group))


def _write_shards(state: dict[str, Any], directory: Path, group: Any) -> None:
    from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
    from torch.distributed.checkpoint.filesystem import FileSystemWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    save(state, storage_writer=FileSystemWriter(directory), planner=DefaultSavePlanner(), process_group=group)


def _saved_weights(model: Any) -> Mapping[str, Tensor]:
    """What `save_pretrained` writes: of an adapter, its own weights."""
    state: dict[str, Tensor] = model.state_dict()
    if not hasattr(model, "peft_config"):
        return state
    trained = {name for name, one in model.named_parameters() if one.requires_grad}
    return {name: one for name, one in state.items() if name in trained}


class _RestoreRngState(TrainerCallback):
    """Restores the random state once more before the first step of a resumed run. transformers restores it before it
    builds the data loader, which then consumes a number, and the rows of a step would be shuffled differently."""

    def __init__(self, restore: Callable[[], None]) -> None:
        self._restore: Callable[[], None] | None = restore

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Restore, before the first step only."""
        if self._restore is not None:
            self._restore()
            self._restore = None


def _load_converted(model: Any, checkpoint: Path) -> None:
    """Load those tensors of a checkpoint that the model holds otherwise than `save_pretrained` writes them, such as
    experts. The trainer of transformers leaves them as they are when it resumes. Nothing is done for checkpoints in
    shards and for adapters."""
    stored = {name for file in checkpoint.glob("model*.safetensors") for name in safe_open(file, "pt").keys()}  # noqa: SIM118
    missing = set(model.state_dict()) - tied_names(model) - stored
    if stored and missing:
        whole = type(model).from_pretrained(checkpoint, dtype=model.dtype).state_dict()
        model.load_state_dict({name: whole[name] for name in missing}, strict=False)
