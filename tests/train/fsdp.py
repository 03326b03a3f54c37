"""FSDP2 on CPUs, where accelerate leaves it out: `shard_on_cpus` makes accelerate's state what it is on a GPU with the
settings of configs/cluster/fsdp2.yaml."""

from typing import Any

from accelerate import PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from transformers import Trainer

_whole = Trainer.create_accelerator_and_postprocess


def shard_on_cpus(mixed_precision: str) -> None:
    """Have every trainer of this process shard its model; layers compute in the format `mixed_precision`, "no" for that
    of the weights."""

    def sharded(self: Any) -> None:
        _whole(self)
        state = self.accelerator.state
        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2,
            auto_wrap_policy="transformer_based_wrap",
            reshard_after_forward=True,
            cpu_ram_efficient_loading=False,
            state_dict_type="SHARDED_STATE_DICT",
        )
        if mixed_precision != "no":
            plugin.set_mixed_precision(mixed_precision)
        state.distributed_type, state.fsdp_plugin = DistributedType.FSDP, plugin
        state._mixed_precision = mixed_precision
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP
        self.is_fsdp_enabled = True

    Trainer.create_accelerator_and_postprocess = sharded  # type: ignore[method-assign]
