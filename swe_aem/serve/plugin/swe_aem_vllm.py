"""A plugin of vLLM's workers for `swe-aem serve`: two ways to receive weights on hosts without NCCL.

    file   a .safetensors file that the trainer has written, on a file system that both see
    gloo   a broadcast from the trainer over TCP

Both are driven by vLLM's own endpoints (/init_weight_transfer_engine, /start_weight_update, /update_weights,
/finish_weight_update). An update is received and checked completely before the model is changed, so a failed update
leaves the old weights unchanged. vLLM imports this file because --worker-extension-cls names it; it runs in vLLM's
environment and imports nothing from swe_aem.
"""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch.distributed import BroadcastOptions, ProcessGroupGloo, TCPStore
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.model_loader.reload.layerwise import finalize_layerwise_reload, initialize_layerwise_reload
from vllm.platforms import current_platform


@dataclass
class FileInit(WeightTransferInitInfo):
    """Nothing to agree on."""


@dataclass
class FileUpdate(WeightTransferUpdateInfo):
    """One whole update."""

    path: str


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


class _WholeUpdate(WeightTransferEngine):
    """Applies an update in one go, once it is all there."""

    def start_weight_update(self) -> None:
        """Nothing yet: the model keeps its weights until the new ones are here."""

    def finish_weight_update(self) -> None:
        """Nothing more: `_apply` has finished."""

    def shutdown(self) -> None:
        """Nothing is held."""

    def _apply(self, weights: dict[str, torch.Tensor]) -> None:
        self._check(weights)
        _pack_experts_again(self.model)
        initialize_layerwise_reload(self.model)
        self.model.load_weights(weights.items())
        finalize_layerwise_reload(self.model, self.model_config)
        if self.model_config.hf_text_config.tie_word_embeddings:
            # The head has the embedding's weights, but on a CPU it computes with a packed copy of the old ones.
            self.model.lm_head.quant_method.process_weights_after_loading(self.model.lm_head)

    def _check(self, weights: dict[str, torch.Tensor]) -> None:
        """Raise `ValueError` unless these are the tensors of the checkpoint that the server began with."""
        wanted: dict[str, list[int]] = {}
        for path in Path(self.model_config.model).glob("*.safetensors"):
            with safe_open(path, "pt") as file:
                wanted |= {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        found = {name: list(tensor.shape) for name, tensor in weights.items()}
        if self.model_config.hf_text_config.tie_word_embeddings:
            for shapes in (wanted, found):
                shapes.pop("lm_head.weight", None)
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
        """Read the file and load it; raises before the model is touched if it is not there or not whole."""
        self._apply(load_file(Path(update_info.path)))


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
        """Take part in the broadcast, then load."""
        weights: dict[str, torch.Tensor] = {}
        options = BroadcastOptions()
        options.rootRank = 0
        for name, dtype, shape in zip(update_info.names, update_info.dtype_names, update_info.shapes, strict=True):
            weights[name] = torch.empty(shape, dtype=getattr(torch, dtype))
            self._group.broadcast([weights[name]], options).wait()
        self._apply(weights)


class Extension:
    """Named by --worker-extension-cls; importing it registers the backends."""


def _register(name: str, engine: Any) -> None:
    if name not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(name, engine)


_register("file", FileEngine)
_register("gloo", GlooEngine)
