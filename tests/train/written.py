"""By how much the memory of a process rises while a model in shards is written, as the kernel counts it."""

import ctypes
import gc
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard

from swe_aem.serve.handover import consume
from swe_aem.testing.steps import tiny_model, tiny_tokenizer
from swe_aem.train.model_directory import ModelDirectory
from swe_aem.train.weight_stream import WeightStream
from tests.memory import begin_peak, peak_bytes, resident_bytes

SHAPE = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 16}
"""About 100 MB."""
How = Literal["streamed", "gathered"]


def rise(directory: Path, *, first: bool) -> dict[How | Literal["model"], int]:
    """Bytes of a model, and by how many the memory of this process rises when all processes write it: streamed as a run
    does at its end, and with all weights gathered."""
    directory.mkdir(exist_ok=True)
    model = tiny_model(**SHAPE)
    files = ModelDirectory(model, tiny_tokenizer(), str(directory), piece_bytes=1 << 24)
    size = sum(one.numel() * one.itemsize for one in model.parameters())
    for layer in model.model.layers:
        fully_shard(layer)
    fully_shard(model)
    _stream(model, files, directory / "first", first=first)  # imports what takes memory for good
    streamed = _measured(lambda: _stream(model, files, directory / "streamed", first=first))
    gathered = _measured(lambda: _gather(model, files, directory / "gathered", first=first))
    return {"model": size, "streamed": streamed, "gathered": gathered}


def _stream(model: Any, files: ModelDirectory, to: Path, *, first: bool) -> None:
    accelerator = SimpleNamespace(device=torch.device("cpu"), unwrap_model=lambda model: model)
    stream = WeightStream(SimpleNamespace(accelerator=accelerator, model=model, is_fsdp_enabled=True), files.named)
    if not first:
        stream.take_part()
        return
    described = stream.described()
    assert consume(stream, lambda tensors: files.write(to, described, tensors)) is None


def _gather(model: Any, files: ModelDirectory, to: Path, *, first: bool) -> None:
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    whole: dict[str, Any] = get_model_state_dict(model, options=options)
    if first:
        model.save_pretrained(to, state_dict=whole)


_LIBC = ctypes.CDLL(None)
_MMAP_THRESHOLD = -3
"""Of mallopt: blocks from this size on are returned to the kernel when they are freed."""


def _measured(work: Any) -> int:
    _LIBC.mallopt(_MMAP_THRESHOLD, 1 << 16)
    gc.collect()
    _LIBC.malloc_trim(0)
    begin_peak()
    before = resident_bytes()
    work()
    return peak_bytes() - before
