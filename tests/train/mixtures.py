"""Tiny random models, mixtures of experts among them, of the architectures that transformers calls by these names."""

from typing import Any

from swe_aem.testing.steps import TINY_SHAPE

_DENSE: dict[str, Any] = {
    **TINY_SHAPE,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
_EXPERTS: dict[str, Any] = {"moe_intermediate_size": 16, "num_experts": 6, "num_experts_per_tok": 2}
_SHARED: dict[str, Any] = {"shared_expert_intermediate_size": 16}
_HYBRID: dict[str, Any] = {
    "num_hidden_layers": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
SHAPES: dict[str, dict[str, Any]] = {
    "qwen3": _DENSE,
    "qwen3_moe": _DENSE | _EXPERTS,
    "qwen3_next": _DENSE | _EXPERTS | _SHARED | _HYBRID,
    "qwen3_5_moe_text": _DENSE | _EXPERTS | _SHARED | _HYBRID,
    "qwen3_5_text": _DENSE | _HYBRID,
    "gpt_oss": _DENSE | {"num_local_experts": 4, "num_experts_per_tok": 2},
}


def mixture(architecture: str = "qwen3_moe", *, seed: int = 0, sharpness: float = 1.0, **shape: Any) -> Any:
    """A causal language model with weights that depend on `seed`; `sharpness` scales what decides: the logits, and
    which experts a token goes to."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    config = AutoConfig.for_model(architecture, **{**SHAPES[architecture], **shape})
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("lm_head.weight", "mlp.gate.weight")):
                parameter.mul_(sharpness)
    return model
