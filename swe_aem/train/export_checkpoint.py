"""`export_checkpoint`: a model directory from a checkpoint of a training run, while the run continues or after it.

Checkpoints have the trained weights as the trainer holds them: whole ones in safetensors, those of FSDP2 in the shards
of all processes (torch's distributed checkpoints). They are read and written tensor by tensor, by one process.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load as load_shards

from swe_aem.errors import UserError
from swe_aem.serve.pieces import TensorInfo
from swe_aem.train import checkpoints
from swe_aem.train.config import TrainConfig
from swe_aem.train.directory import steps_behind, stored_config
from swe_aem.train.model_directory import ModelDirectory
from swe_aem.train.models import load_processing, without_weights
from swe_aem.train.weight_stream import tied_names

_SHARDS = "pytorch_model_fsdp_0"
"""Where accelerate puts the model's shards."""
_PREFIX = "model."
"""What the names of shards begin with there."""
_ADAPTER = ("adapter_model.safetensors", "adapter_config.json")


def export_checkpoint(run: Path, to: Path, *, step: int | None = None) -> int:
    """Write the policy after `step` steps of the run, or that of the last checkpoint, as a model directory; its step.
    Raises `UserError` if there is no such checkpoint, if it cannot be read, and if `to` is there."""
    if to.exists():
        raise UserError(f"{to} exists: remove it, or choose another --to")
    config = stored_config(run)
    checkpoint = _chosen(run, config, step)
    try:
        if config.lora is not None:
            _copy_adapter(checkpoint, config, to)
        else:
            _write(checkpoint, config, to)
    except (FileNotFoundError, CheckpointException) as error:
        if (checkpoint / checkpoints.MARK).exists():
            raise
        raise UserError(
            f"{checkpoint} was removed while it was read, for the run has saved later ones: repeat the command"
        ) from error
    return steps_behind(config, checkpoint)


def _chosen(run: Path, config: TrainConfig, step: int | None) -> Path:
    found = {steps_behind(config, one): one for one in checkpoints.whole(run / checkpoints.DIRECTORY)}
    if not found:
        raise UserError(f"{run} has no checkpoint yet: one is saved every {config.save_every} steps (save_every)")
    if step is None:
        return found[max(found)]
    if step not in found:
        there = ", ".join(map(str, sorted(found)))
        raise UserError(
            f"{run} has no checkpoint of step {step}: there are those of step {there}; give one with --step"
        )
    return found[step]


def _write(checkpoint: Path, config: TrainConfig, to: Path) -> None:
    model = without_weights(config.model)
    files = ModelDirectory(model, load_processing(config.model), config.model)
    stored = _stored(checkpoint)
    tied = tied_names(model)
    names = [name for name in model.state_dict() if name not in tied]
    if set(names) <= set(stored.empty):
        named = files.named
    else:  # as `save_pretrained` writes them
        names, named = list(stored.empty), files.typed
    described = [TensorInfo.of(name, one) for name, one in named((name, stored.empty[name]) for name in names)]
    files.write(to, described, named((name, stored.read(name)) for name in names))


class _Stored(Protocol):
    """The weights of a checkpoint."""

    @property
    def empty(self) -> Mapping[str, Tensor]:
        """Each tensor without memory, by name."""
        ...

    def read(self, name: str) -> Tensor:
        """One whole tensor."""
        ...


def _stored(checkpoint: Path) -> _Stored:
    if (checkpoint / _SHARDS).is_dir():
        return _Shards(checkpoint / _SHARDS)
    if files := sorted(checkpoint.glob("model*.safetensors")):
        return _Whole(files)
    raise UserError(
        f"{checkpoint} has neither safetensors nor shards of FSDP2: where DeepSpeed wrote it, run its zero_to_fp32.py"
    )


class _Whole:
    """Tensors in safetensors files."""

    def __init__(self, files: list[Path]) -> None:
        self._opened = {name: one for one in map(_opened, files) for name in one.keys()}  # noqa: SIM118
        self.empty = {name: torch.empty_like(self._meta(name)) for name in self._opened}

    def _meta(self, name: str) -> Tensor:
        part = self._opened[name].get_slice(name)
        dtype = part[tuple(slice(0, 0) for _ in part.get_shape())].dtype
        return torch.empty(part.get_shape(), dtype=dtype, device="meta")

    def read(self, name: str) -> Tensor:
        """One tensor, which lies in the file until it is used."""
        return self._opened[name].get_tensor(name)


class _Shards(FileSystemReader):
    """Tensors of a distributed checkpoint."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._found: Metadata = super().read_metadata()
        self.empty = {
            name.removeprefix(_PREFIX): torch.empty(one.size, dtype=one.properties.dtype, device="meta")
            for name, one in self._found.state_dict_metadata.items()
            if isinstance(one, TensorStorageMetadata)
        }

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """What was read once: it lists every shard of the model."""
        return self._found

    def read(self, name: str) -> Tensor:
        """One tensor, put together from its shards."""
        tensor = torch.empty_like(self.empty[name], device="cpu")
        load_shards({f"{_PREFIX}{name}": tensor}, storage_reader=self, no_dist=True)
        return tensor


def _opened(file: Path) -> Any:
    return safe_open(file, "pt")


def _copy_adapter(checkpoint: Path, config: TrainConfig, to: Path) -> None:
    unfinished = to.with_name(f"{to.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for name in _ADAPTER:
        shutil.copyfile(checkpoint / name, unfinished / name)
    load_processing(config.model).save_pretrained(unfinished)
    unfinished.rename(to)
