"""`ModelDirectory`: writes a model directory that transformers and vLLM load, from tensors that come one by one.

It is what `save_pretrained` writes, without a second copy of the model: names and shapes are those of the model's
checkpoint, and so is the data type of each tensor, whatever it was trained in.
"""

import copy
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from swe_aem.errors import UserError
from swe_aem.serve.handover import consume
from swe_aem.serve.pieces import INDEX, PIECE_BYTES, TensorInfo, write_pieces
from swe_aem.train.checkpoint_names import CheckpointNames
from swe_aem.train.processes import Processes
from swe_aem.train.weight_stream import WeightStream

_FLOATS = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}
"""Types of a checkpoint that hold its tensors as they are; others are compressed and come with scales."""
_SINGLE = "model.safetensors"


class ModelDirectory:
    """The files of one model. It keeps no weights, so the model may be sharded, or trained, after this was made."""

    def __init__(self, model: Any, tokenizer: Any, name: str, *, piece_bytes: int = PIECE_BYTES) -> None:
        """`name` is the directory or the hub's name that `model` was loaded from; `piece_bytes` bounds one file."""
        self._config = copy.deepcopy(model.config)
        self._config.architectures = [type(model).__name__]
        self._generation = copy.deepcopy(model.generation_config) if model.can_generate() else None
        self._tokenizer = tokenizer
        self._names = CheckpointNames(model)
        self._own = dict(_own_types(name))
        self._other = _most_common(self._own) or getattr(model.config, "dtype", None) or model.dtype
        self._piece_bytes = piece_bytes

    def named(self, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """The checkpoint's names and tensors, made from those of a state dict as they come."""
        return self.typed(self._names(tensors))

    def typed(self, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """The checkpoint's tensors in its own types, made from such of other types as they come."""
        for name, tensor in tensors:
            own = self._own.get(name, self._other)
            yield name, tensor.to(own) if tensor.is_floating_point() else tensor

    def write(self, directory: Path, described: list[TensorInfo], tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Write the files; the directory gets its name when all are complete, and replaces one of that name. The
        tensors are `named`, and come in the order in which they are `described`."""
        unfinished = directory.with_name(f"{directory.name}.part")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        self._config.dtype = _most_common({one.name: getattr(torch, one.dtype) for one in described})
        self._config.save_pretrained(unfinished)
        if self._generation is not None:
            self._generation.save_pretrained(unfinished)
        self._tokenizer.save_pretrained(unfinished)
        write_pieces(unfinished, described, tensors, piece_bytes=self._piece_bytes)
        shutil.rmtree(directory, ignore_errors=True)
        unfinished.rename(directory)

    def write_trained(
        self, directory: Path, trainer: Any, processes: Processes, *, collective_timeout_s: float
    ) -> None:
        """Write the model that a trainer has, whole or in shards, tensor by tensor. All processes call this. Raises
        `UserError` if it cannot be written."""
        failure: str | None = None
        stream = WeightStream(trainer, self.named)
        if processes.first:
            described = stream.described()
            # Others wait in a collective while a tensor is written.
            limit_s = collective_timeout_s / 2
            failure = consume(stream, lambda one: self.write(directory, described, one), tensor_limit_s=limit_s)
        else:
            stream.take_part()
        processes.first_does("writing the policy", lambda: _require_written(directory, failure))


def _require_written(directory: Path, failure: str | None) -> None:
    if failure is not None:
        raise UserError(f"{directory} could not be written: {failure}. Repeat the command once it can be")


def _own_types(name: str) -> Iterator[tuple[str, torch.dtype]]:
    """The floating-point types of a checkpoint's tensors, by name, from the headers of its files; nothing of a
    checkpoint that has no safetensors."""
    from transformers.utils.hub import cached_file

    index = cached_file(name, INDEX, _raise_exceptions_for_missing_entries=False)
    files = [_SINGLE] if index is None else set(json.loads(Path(index).read_text("utf-8"))["weight_map"].values())
    for file in files:
        path = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
        for tensor, entry in (_header(Path(path)) if path is not None else {}).items():
            if entry.get("dtype") in _FLOATS:
                yield tensor, _FLOATS[entry["dtype"]]


def _header(path: Path) -> dict[str, Any]:
    """What a safetensors file says of its tensors."""
    with path.open("rb") as file:
        return json.loads(file.read(int.from_bytes(file.read(8), "little")))


def _most_common(types: Mapping[str, torch.dtype]) -> torch.dtype | None:
    """The floating-point type of most tensors; None if there are none."""
    floats = Counter(one for one in types.values() if one.is_floating_point)
    return floats.most_common(1)[0][0] if floats else None
