"""Tiny models of random weights, of the architectures that the model families are for."""

from typing import Any

TEXT = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}
EXPERTS = {"moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2}
ROUTED = {"moe_intermediate_size": 32, "n_routed_experts": 4, "num_experts_per_tok": 2, "first_k_dense_replace": 1}
LOCAL = {"num_local_experts": 4, "num_experts_per_tok": 2}
LATENT = {
    "num_key_value_heads": 2, "kv_lora_rank": 32, "q_lora_rank": 32, "qk_nope_head_dim": 32, "qk_rope_head_dim": 16,
    "v_head_dim": 32, "head_dim": 16,
}  # fmt: skip
"""Attention with compressed keys and values, whose keys are wider than the values."""
INDEXER = {"index_topk": 4096, "index_head_dim": 32, "index_n_heads": 2}
LINEAR = {
    "layer_types": ["linear_attention", "full_attention"], "linear_key_head_dim": 32, "linear_value_head_dim": 32,
    "linear_num_key_heads": 2, "linear_num_value_heads": 2,
}  # fmt: skip
MAMBA = {
    "num_hidden_layers": 4, "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"],
    "mamba_num_heads": 4, "mamba_head_dim": 32, "ssm_state_size": 16, "n_groups": 1, "chunk_size": 16,
    "n_routed_experts": 4, "moe_intermediate_size": 32, "moe_shared_expert_intermediate_size": 32,
    "num_experts_per_tok": 2, "use_mamba_kernels": False,
}  # fmt: skip

ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3": ("Qwen3", {}),
    "qwen3-coder": ("Qwen3Moe", EXPERTS),
    "qwen3.5": ("Qwen3_5Moe", EXPERTS | LINEAR | {"shared_expert_intermediate_size": 32}),
    "qwen3.6": ("Qwen3_5Moe", EXPERTS | LINEAR | {"shared_expert_intermediate_size": 32}),
    "qwen3.8": ("Qwen3_5", LINEAR),
    "glm-4.5": ("Glm4Moe", ROUTED),
    "glm-5": ("GlmMoeDsa", ROUTED | LATENT | INDEXER),
    "glm-5.1": ("GlmMoeDsa", ROUTED | LATENT | INDEXER),
    "glm-5.3": ("GlmMoeDsa", ROUTED | LATENT | INDEXER),
    "gpt-oss": ("GptOss", LOCAL | {"sliding_window": 16}),
    "kimi-k2": ("DeepseekV3", ROUTED | LATENT | {"n_group": 1, "topk_group": 1}),
    "kimi-k2.5": ("DeepseekV3", ROUTED | LATENT | {"n_group": 1, "topk_group": 1}),
    "minimax-m2": ("MiniMaxM2", LOCAL),
    "nemotron-3": ("NemotronH", MAMBA),
    "nemotron-3-ultra": ("NemotronH", MAMBA),
    "nemotron-3.5": ("NemotronH", MAMBA),
    "deepseek-v3": ("DeepseekV3", ROUTED | LATENT | {"n_group": 1, "topk_group": 1}),
    "deepseek-r1": ("DeepseekV3", ROUTED | LATENT | {"n_group": 1, "topk_group": 1}),
    "deepseek-v3.1": ("DeepseekV3", ROUTED | LATENT | {"n_group": 1, "topk_group": 1}),
    "deepseek-v4": ("DeepseekV4", {"moe_intermediate_size": 32, "n_routed_experts": 4, "num_experts_per_tok": 2}),
}
"""Families to the class of an architecture of theirs in transformers, without its ending, and what it takes beside
`TEXT`."""


def random_model(family: str, vocabulary: int, *, seed: int = 0) -> Any:
    """A model of the family's architecture with at least `vocabulary` token ids and random weights, float32."""
    import torch
    import transformers

    prefix, settings = ARCHITECTURES[family]
    config_class = getattr(transformers, f"{prefix}TextConfig", None) or getattr(transformers, f"{prefix}Config")
    torch.manual_seed(seed)
    config = config_class(vocab_size=-(-vocabulary // 64) * 64, **TEXT | settings)
    model = getattr(transformers, f"{prefix}ForCausalLM")(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model
