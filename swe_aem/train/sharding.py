"""FSDP2's gradients: in shards between micro-batches, and summed over micro-batches and processes in float32."""

from dataclasses import replace
from typing import Any


def shard_gradients(accelerator: Any) -> None:
    """Reduce gradients after every micro-batch, and in float32, where accelerate shards the model with FSDP2. Call
    before the model is prepared.

    transformers and accelerate otherwise reduce once per update: until then each process holds the gradient of the
    whole model, summed in the 16-bit format that layers compute in.
    """
    if not accelerator.state.is_fsdp2:
        return
    import torch
    from torch.distributed.fsdp import MixedPrecisionPolicy

    plugin = accelerator.state.fsdp_plugin
    policy = plugin.mixed_precision_policy or MixedPrecisionPolicy()
    plugin.mixed_precision_policy = replace(policy, reduce_dtype=torch.float32)
    accelerator.gradient_state.plugin_kwargs["sync_each_batch"] = True
