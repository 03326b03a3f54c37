"""`ModelShape`: what a model's size follows from, out of its config.json or, before it was fetched, from a table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swe_aem.core.base import Frozen
from swe_aem.errors import UserError
from swe_aem.train.architecture import config_of, experts, other_than_attention


class ModelShape(Frozen):
    """A decoder of the Qwen3 or Llama kind, dense or with experts in every layer."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    """Width of the MLP, in a mixture of one expert."""
    vocab_size: int
    tie_word_embeddings: bool = False
    num_experts: int = 0
    """Experts of a layer; 0: a dense model."""
    num_experts_per_tok: int = 0
    """Experts that a token goes to."""

    @property
    def expert_parameters(self) -> int:
        """Parameters of one expert, or of a dense layer's MLP: three projections."""
        return 3 * self.hidden_size * self.intermediate_size

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer: the four projections of attention, the MLP, or all experts and their router, and
        norms."""
        return self._layer(self.num_experts)

    @property
    def active_parameters(self) -> int:
        """Parameters of the whole model that one token is computed with."""
        idle = self.layer_parameters - self._layer(self.num_experts_per_tok)
        return self.parameters - self.num_hidden_layers * idle

    def _layer(self, experts: int) -> int:
        queries = self.num_attention_heads * self.head_dim
        keys = self.num_key_value_heads * self.head_dim
        attention = self.hidden_size * (2 * queries + 2 * keys)
        mlp = (experts or 1) * self.expert_parameters + self.num_experts * self.hidden_size
        return attention + mlp + 2 * self.hidden_size + 2 * self.head_dim

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the embedding; an untied head has as many."""
        return self.vocab_size * self.hidden_size

    @property
    def parameters(self) -> int:
        """Parameters of the whole model."""
        tables = self.embedding_parameters * (1 if self.tie_word_embeddings else 2)
        return self.num_hidden_layers * self.layer_parameters + tables + self.hidden_size


def _qwen3(hidden: int, layers: int, heads: int, intermediate: int, tied: bool = False) -> ModelShape:
    return ModelShape(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=8,
        head_dim=128,
        intermediate_size=intermediate,
        vocab_size=151936,
        tie_word_embeddings=tied,
    )


_QWEN3_30B_A3B = ModelShape(
    hidden_size=2048,
    num_hidden_layers=48,
    num_attention_heads=32,
    num_key_value_heads=4,
    head_dim=128,
    intermediate_size=768,
    vocab_size=151936,
    num_experts=128,
    num_experts_per_tok=8,
)

KNOWN = {
    "Qwen3-0.6B": _qwen3(1024, 28, 16, 3072, tied=True),
    "Qwen3-1.7B": _qwen3(2048, 28, 16, 6144, tied=True),
    "Qwen3-4B": _qwen3(2560, 36, 32, 9728, tied=True),
    "Qwen3-8B": _qwen3(4096, 36, 32, 12288),
    "Qwen3-14B": _qwen3(5120, 40, 40, 17408),
    "Qwen3-32B": _qwen3(5120, 64, 64, 25600),
    "Qwen3-30B-A3B": _QWEN3_30B_A3B,
    "Qwen3-Coder-30B-A3B-Instruct": _QWEN3_30B_A3B,
}
"""Shapes by the last part of a model's name, for plans that are made before the model is there."""


def shape_of(model: str) -> ModelShape:
    """The shape of a model directory, or of a known name; raises `UserError` if neither tells, or if it is of another
    kind."""
    found = config_of(model)
    if found is None:
        if Path(model).name in KNOWN:
            return KNOWN[Path(model).name]
        raise UserError(f"{model}: no config.json there, and its name is none of {', '.join(KNOWN)}")
    values = dict(found)
    if count := experts(found):
        if not _experts_everywhere(found):
            raise UserError(f"{model} is a mixture of {count} experts, whose memory is not known: swe-aem docs memory")
        values |= {"num_experts": count, "intermediate_size": found.get("moe_intermediate_size")}
    if other := other_than_attention(found):
        raise UserError(f"{model} has layers of the kind {other[0]}, whose memory is not known: swe-aem docs memory")
    try:
        heads = int(values["num_attention_heads"])
        values.setdefault("num_key_value_heads", heads)
        values.setdefault("head_dim", values["hidden_size"] // heads)
        return ModelShape(**{name: values[name] for name in ModelShape.model_fields if name in values})
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{model}: not a decoder whose memory can be estimated: {error}") from error


def _experts_everywhere(found: Mapping[str, Any]) -> bool:
    """Is a mixture of the Qwen3 kind, with routed experts and nothing else behind attention in every layer?"""
    everywhere = found.get("decoder_sparse_step", 1) == 1 and not found.get("mlp_only_layers")
    return found.get("model_type") == "qwen3_moe" and everywhere
