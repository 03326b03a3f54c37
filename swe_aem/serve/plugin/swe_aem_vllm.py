"""A plugin of vLLM's workers for `swe-aem serve`: two ways to receive weights on hosts without NCCL.

    file   .safetensors files that the trainer has written, on a file system that both see
    gloo   a broadcast from the trainer over TCP

Both are driven by vLLM's own endpoints (/init_weight_transfer_engine, /start_weight_update, /update_weights,
/finish_weight_update). Names and shapes are checked before the model is changed, so an update that is refused leaves
the old weights unchanged. A worker that fails later, and so may hold a mixture, ends itself and its server. vLLM
imports this file because --worker-extension-cls names it; it runs in vLLM's environment and imports nothing from
swe_aem.
"""

import math
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch.distributed import BroadcastOptions, ProcessGroupGloo, TCPStore
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.model_loader.reload.layerwise import finalize_layerwise_reload, initialize_layerwise_reload
from vllm.platforms import current_platform

LEFT_OUT = ("mtp.", "model.visual.")
"""What names of tensors begin with that predict several tokens, or see images: no trainer sends them."""


@dataclass
class FileInit(WeightTransferInitInfo):
    """Nothing to agree on."""


@dataclass
class FileUpdate(WeightTransferUpdateInfo):
    """One whole update."""

    path: str
    """Directory of its files."""


@dataclass
class GlooInit(WeightTransferInitInfo):
    """Where the trainer, rank 0, waits for `world_size - 1` workers."""

    host: str
    port: int
    rank_offset: int
    """Rank of this server's first worker."""
    world_size: int
    limit_s: float


@dataclass
class GlooUpdate(WeightTransferUpdateInfo):
    """What is broadcast, in this order."""

    names: list[str]
    dtype_names: list[str]
    shapes: list[list[int]]
    counts: list[int]
    """Tensors that each broadcast packs."""


class _WholeUpdate(WeightTransferEngine):
    """Applies an update in one go, once it is all there."""

    def start_weight_update(self) -> None:
        """Nothing yet: the model keeps its weights until the new ones are here."""

    def finish_weight_update(self) -> None:
        """Nothing more: `_apply` has finished."""

    def shutdown(self) -> None:
        """Nothing is held."""

    def _apply(self, shapes: dict[str, list[int]], weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Load weights of these shapes, which are read one by one. Raises `ValueError` before the first is read if they
        are not the model's."""
        self._check(shapes)
        try:
            _pack_experts_again(self.model)
            initialize_layerwise_reload(self.model)
            self.model.load_weights(weights)
            finalize_layerwise_reload(self.model, self.model_config)
            if self.model_config.hf_text_config.tie_word_embeddings:
                # The head has the embedding's weights, but on a CPU it computes with a packed copy of the old ones.
                self.model.lm_head.quant_method.process_weights_after_loading(self.model.lm_head)
        except BaseException:
            traceback.print_exc()
            print(
                "loading failed in the middle: this worker ends, for it may hold a mixture", file=sys.stderr, flush=True
            )
            os._exit(1)

    def _check(self, found: dict[str, list[int]]) -> None:
        """Raise `ValueError` unless these shapes are those of the checkpoint that the server began with. What a trainer
        of language models does not have may be missing: the model keeps it as it is."""
        found = dict(found)
        wanted: dict[str, list[int]] = {}
        for path in Path(self.model_config.model).glob("*.safetensors"):
            with safe_open(path, "pt") as file:
                wanted |= {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        if self.model_config.hf_text_config.tie_word_embeddings:
            for shapes in (wanted, found):
                shapes.pop("lm_head.weight", None)
        wanted = {name: shape for name, shape in wanted.items() if name in found or not name.startswith(LEFT_OUT)}
        if found != wanted:
            wrong = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
            raise ValueError(
                f"{len(wrong)} tensors are not as in {self.model_config.model}, such as {wrong[0]}: "
                f"{found.get(wrong[0])} in place of {wanted.get(wrong[0])}"
            )


def _pack_experts_again(model: torch.nn.Module) -> None:
    """On a CPU vLLM packs the experts of a layer when it makes their kernel, and not when they are loaded again: have
    it make new kernels."""
    if not current_platform.is_cpu():
        return
    for module in model.modules():
        method = getattr(module, "quant_method", None)
        if getattr(method, "moe_kernel", None) is not None:
            method.moe_kernel = None


class FileEngine(_WholeUpdate):
    """Backend `file`."""

    init_info_cls = FileInit
    update_info_cls = FileUpdate

    def init_transfer_engine(self, init_info: FileInit) -> None:
        """Nothing to open."""

    def receive_weights(self, update_info: FileUpdate) -> None:
        """Load the tensors one by one. They are mapped, so each worker of a server reads the parts that it needs.
        Raises before the model is touched if a file is not whole."""
        with ExitStack() as stack:
            files = [stack.enter_context(safe_open(path, "pt")) for path in sorted(Path(update_info.path).iterdir())
                     if path.suffix == ".safetensors"]  # fmt: skip
            shapes = {name: list(file.get_slice(name).get_shape()) for file in files for name in file.keys()}  # noqa: SIM118
            self._apply(shapes, ((name, file.get_tensor(name)) for file in files for name in file.offset_keys()))


class GlooEngine(_WholeUpdate):
    """Backend `gloo`."""

    init_info_cls = GlooInit
    update_info_cls = GlooUpdate

    def init_transfer_engine(self, init_info: GlooInit) -> None:
        """Join the trainer's group."""
        limit = timedelta(seconds=init_info.limit_s)
        rank = init_info.rank_offset + self.parallel_config.rank
        store = TCPStore(init_info.host, init_info.port, init_info.world_size, False, limit)
        self._group = ProcessGroupGloo(store, rank, init_info.world_size, limit)

    def receive_weights(self, update_info: GlooUpdate) -> None:
        """Take part in the broadcasts, then load."""
        weights = dict(self._received(update_info))
        self._apply({name: list(tensor.shape) for name, tensor in weights.items()}, weights.items())

    def _received(self, info: GlooUpdate) -> Iterator[tuple[str, torch.Tensor]]:
        options = BroadcastOptions()
        options.rootRank = 0
        coming = zip(info.names, info.dtype_names, info.shapes, strict=True)
        for count in info.counts:
            group = [(name, getattr(torch, dtype), shape) for name, dtype, shape in islice(coming, count)]
            sizes = [math.prod(shape) * dtype.itemsize for _, dtype, shape in group]
            packed = torch.empty(sum(sizes), dtype=torch.uint8)
            self._group.broadcast([packed], options).wait()
            for (name, dtype, shape), part in zip(group, packed.split(sizes), strict=True):
                yield name, part.clone().view(dtype).view(shape)


class Extension:
    """Named by --worker-extension-cls; importing it registers the backends."""


def _register(name: str, engine: Any) -> None:
    if name not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(name, engine)


_register("file", FileEngine)
_register("gloo", GlooEngine)
