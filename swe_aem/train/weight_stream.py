"""`WeightStream`: the trained weights tensor by tensor, whole and in the servers' data type, from shards or not.

One whole tensor is there at a time. Where the model is sharded (FSDP2, ZeRO-3), each tensor is a collective: all
processes go through the stream at the same time, the first one by iterating and the others by `take_part`.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from swe_aem.serve.pieces import TensorInfo

Renaming = Callable[[Iterable[tuple[str, Tensor]]], Iterable[tuple[str, Tensor]]]
"""Makes tensors of a checkpoint from those of a state dict as they come."""


class WeightStream:
    """The weights of a trainer's model as they are when it is iterated. Each iteration reads them again."""

    def __init__(self, trainer: Any, names: Renaming, *, dtype: str | None = None, only: str = "") -> None:
        """`dtype` is that of floating-point tensors, the trained one if not given; `only` is a part of the state dict's
        names that are streamed."""
        self._names = names
        self._dtype = None if dtype is None else getattr(torch, dtype)
        self._device: torch.device = trainer.accelerator.device
        self._tensors = {name: tensor for name, tensor in _tensors(trainer).items() if only in name}

    def described(self) -> list[TensorInfo]:
        """What comes, in its order. No process waits for another."""
        empty = ((name, self._cast(_of_shape(one))) for name, one in self._tensors.items())
        return [TensorInfo.of(name, one) for name, one in self._names(empty)]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        yield from self._names((name, self._whole(one)) for name, one in self._tensors.items())

    def take_part(self) -> None:
        """Go through the stream on a process that needs nothing of it."""
        for tensor in self._tensors.values():
            if isinstance(tensor, DTensor) or _in_zero3(tensor):
                self._whole(tensor)

    @torch.no_grad()
    def _whole(self, tensor: Tensor) -> Tensor:
        if isinstance(tensor, DTensor):
            # The cast comes first, so that shards travel in the smaller format.
            shard: Any = self._cast(tensor.detach())
            if shard.device.type != self._device.type:  # offloaded
                shard = shard.to(self._device)
            return shard.full_tensor().contiguous()
        with _gathered(tensor):
            whole = self._cast(tensor.detach())
            return whole.clone() if _in_zero3(tensor) else whole.contiguous()

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._dtype) if self._dtype is not None and tensor.is_floating_point() else tensor


def _tensors(trainer: Any) -> dict[str, Tensor]:
    """Parameters and buffers of the state dict, whole or in shards; of tied ones only the first."""
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    if trainer.is_fsdp_enabled:
        from torch.distributed.checkpoint.state_dict import get_model_state_dict

        state: dict[str, Any] = get_model_state_dict(model)  # without the names that wrappers add
    else:
        state = model.state_dict()
        state |= {name: one for name, one in model.named_parameters() if _in_zero3(one)}
    tied = tied_names(model)
    return {name: one for name, one in state.items() if name not in tied}


def tied_names(model: Any) -> set[str]:
    """The names of parameters that are others' too, all but the first of each."""
    named = list(model.named_parameters(remove_duplicate=False))
    first = {id(one): name for name, one in reversed(named)}
    return {name for name, one in named if first[id(one)] != name}


def _in_zero3(tensor: Tensor) -> bool:
    """Is it a parameter that DeepSpeed has partitioned?"""
    return hasattr(tensor, "ds_id")


def empty_state(model: Any) -> dict[str, Tensor]:
    """A model's state dict without memory. What DeepSpeed has partitioned has the shape of the whole."""
    partitioned = {name: one for name, one in model.named_parameters(remove_duplicate=False) if _in_zero3(one)}
    return {name: _of_shape(one) for name, one in (model.state_dict() | partitioned).items()}


def whole_shape(tensor: Any) -> tuple[int, ...]:
    """The shape of a parameter, also where DeepSpeed has partitioned it."""
    return tuple(tensor.ds_shape if _in_zero3(tensor) else tensor.shape)


def _of_shape(tensor: Any) -> Tensor:
    """A tensor without memory that has the shape and type of the whole one."""
    return torch.empty(whole_shape(tensor), dtype=tensor.dtype, device="meta")


def _gathered(tensor: Tensor) -> Any:
    if not _in_zero3(tensor):
        return nullcontext()
    import deepspeed  # pyright: ignore[reportMissingImports]

    return deepspeed.zero.GatheredParameters([tensor])
