"""`look_back`: heads of a random model's first layer attend to the tokens before, one head to each of the last places.

To copy what it read, a model looks for the place where its last tokens stood before, and says what stood behind them.
For that, each place has to know what stands before it. A small model finds this so late that it has learnt lines by
heart by then. If it begins with it, it copies lines that it never saw after a few hundred updates.

A part that all embeddings have in common makes queries and keys that are the same everywhere. The rotation turns them
by their place, so a query that begins turned back by two places fits the key two places back.
"""

from typing import Any

_SHARPNESS = 2.5
"""Factor of the first layer's queries and keys: the place looked at gets 99 % of the attention."""
_LATER_SHARPNESS = 1.5
"""The same for other layers, which have to find out where to look."""
_AMPLITUDES = (1.0, 1.0, 0.8, 0.6)
"""Shares of the fastest rotations. Slower ones hardly tell neighbouring places apart."""
_LOUDNESS = 0.5
"""Factor of what the heads write, against an orthogonal matrix."""
_EMBEDDINGS = 2.0
"""Factor of random embeddings: what a token is stays louder than what stands before it."""


def look_back(model: Any) -> None:
    """Change the weights of a `Qwen3ForCausalLM`. Its last key-value head stays random; all other layers begin by
    adding nothing."""
    import torch

    first, *later = model.model.layers
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        for layer in later:
            layer.self_attn.q_norm.weight.fill_(_LATER_SHARPNESS)
            layer.self_attn.k_norm.weight.fill_(_LATER_SHARPNESS)
        embeddings = model.model.embed_tokens.weight
        embeddings.mul_(_EMBEDDINGS)
        embeddings[:, 0] = embeddings[:, 1:].norm(dim=1).mean()
        torch.nn.init.orthogonal_(first.self_attn.v_proj.weight)
        torch.nn.init.orthogonal_(first.self_attn.o_proj.weight, gain=_LOUDNESS)
        _turn_back(first.self_attn, model.config)


def _turn_back(attention: Any, config: Any) -> None:
    """Head n attends n + 1 places back."""
    import torch

    size, pairs = config.head_dim, config.head_dim // 2
    shares = torch.zeros(pairs)
    shares[: len(_AMPLITUDES)] = torch.tensor(_AMPLITUDES)[:pairs]
    turns = config.rope_parameters["rope_theta"] ** (-torch.arange(pairs) / pairs)
    attention.q_norm.weight.fill_(_SHARPNESS)
    attention.k_norm.weight.fill_(_SHARPNESS)
    per_key = config.num_attention_heads // config.num_key_value_heads
    for key in range(config.num_key_value_heads - 1):
        attention.k_proj.weight[key * size : (key + 1) * size, 0] = torch.cat([shares, torch.zeros(pairs)])
        for head in range(key * per_key, (key + 1) * per_key):
            angles = turns * (head + 1)
            query = torch.cat([shares * torch.cos(angles), -shares * torch.sin(angles)])
            attention.q_proj.weight[head * size : (head + 1) * size, 0] = query
