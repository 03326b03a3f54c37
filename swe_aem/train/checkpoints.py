"""Checkpoints of TRL's trainer that are known to be complete: each gets a marker file when all of it is written."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import safe_open
from transformers.trainer_callback import TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from swe_aem.train.weight_stream import tied_names

DIRECTORY = "checkpoints"
"""Where a run has its checkpoints, below its directory."""
UNFINISHED = "unfinished"
"""Where one is written, below that."""
MARK = "complete"


class RestoreRngState(TrainerCallback):
    """Restores the random state once more before the first step of a resumed run. transformers restores it before it
    builds the data loader, which then consumes a number, and the rows of a step would be shuffled differently."""

    def __init__(self, restore: Callable[[], None]) -> None:
        self._restore: Callable[[], None] | None = restore

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Restore, before the first step only."""
        if self._restore is not None:
            self._restore()
            self._restore = None


def load_converted(model: Any, checkpoint: Path) -> None:
    """Load those tensors of a checkpoint that the model holds otherwise than `save_pretrained` writes them, such as
    experts. The trainer of transformers leaves them as they are when it resumes. Nothing is done for checkpoints in
    shards and for adapters."""
    stored = {name for file in checkpoint.glob("model*.safetensors") for name in safe_open(file, "pt").keys()}  # noqa: SIM118
    missing = set(model.state_dict()) - tied_names(model) - stored
    if stored and missing:
        whole = type(model).from_pretrained(checkpoint, dtype=model.dtype).state_dict()
        model.load_state_dict({name: whole[name] for name in missing}, strict=False)


def latest(directory: Path) -> Path | None:
    """The last complete checkpoint, None if there is none."""
    return max(whole(directory), key=update_of, default=None)


def whole(directory: Path) -> list[Path]:
    """All complete checkpoints."""
    return [path.parent for path in directory.glob(f"checkpoint-*/{MARK}")]


def complete(written: Path, directory: Path) -> None:
    """Mark a checkpoint of which all is written, and make it one of those in `directory`, in one step."""
    (written / MARK).touch()
    written.rename(directory / written.name)


def remove_old(directory: Path, *, keep: int) -> None:
    """Remove all complete checkpoints but the last `keep`. One that is removed in part is not complete."""
    for path in sorted(whole(directory), key=update_of)[:-keep]:
        (path / MARK).unlink()
        shutil.rmtree(path)


def remove_torn(directory: Path) -> list[Path]:
    """Remove checkpoints that a killed process did not finish; returns them."""
    torn = [path for path in directory.glob("checkpoint-*") if not (path / MARK).exists()]
    torn += (directory / UNFINISHED).glob("checkpoint-*")
    for path in torn:
        shutil.rmtree(path)
    return torn


def update_of(path: Path) -> int:
    """Optimiser updates behind a checkpoint, from its name."""
    return int(path.name.rpartition("-")[2])
