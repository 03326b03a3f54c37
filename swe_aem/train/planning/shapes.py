"""`ModelShape`: what a model's size follows from, out of its config.json or, before it was fetched, from a table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swe_aem.core.base import Frozen
from swe_aem.errors import UserError
from swe_aem.train.architecture import config_of, experts, kind_of, other_than_attention, text_of

_IN_PROJECTIONS = {"qwen3_next": 2, "qwen3_5_text": 4, "qwen3_5_moe_text": 4}
"""Hybrids whose memory is known, and `DeltaNets.in_projections` of each."""
_FULL_ATTENTION_EVERY = 4
"""Every so many layers one has attention, where a configuration does not say."""


class DeltaNets(Frozen):
    """The delta nets that stand in most layers of a hybrid (Qwen3-Next, Qwen3.5) in place of attention."""

    layers: int
    """How many layers have one; the others have attention, with a gate on its output."""
    key_heads: int
    value_heads: int
    key_head_dim: int
    value_head_dim: int
    conv_kernel: int
    in_projections: int
    """Matrices that its input is projected by: 2 in Qwen3-Next, 4 in Qwen3.5."""

    @property
    def channels(self) -> int:
        """Width of queries, keys and values together, which the convolution sees."""
        return 2 * self.key_heads * self.key_head_dim + self.values

    @property
    def values(self) -> int:
        """Width of all values."""
        return self.value_heads * self.value_head_dim

    def parameters(self, hidden: int) -> int:
        """Parameters of one: projections into and out of it, the convolution, two numbers for each head, a norm."""
        projections = hidden * (self.channels + 2 * self.values + 2 * self.value_heads)
        return projections + self.conv_kernel * self.channels + 2 * self.value_heads + self.value_head_dim

    def lora_ends(self, hidden: int) -> int:
        """Inputs and outputs of its projections, which an adapter has a row or a column for."""
        return (self.in_projections + 1) * hidden + self.channels + 2 * self.values + 2 * self.value_heads

    def state_bytes(self, size: int) -> int:
        """What a sequence of any length keeps in all layers: a float32 matrix for each head, and the latest inputs of
        the convolution in numbers of `size` bytes."""
        matrices = 4 * self.value_heads * self.key_head_dim * self.value_head_dim
        return self.layers * (matrices + size * self.conv_kernel * self.channels)


class ModelShape(Frozen):
    """A decoder of the Qwen3 or Llama kind, dense or with experts in every layer, or a hybrid of it."""

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
    shared_expert_size: int = 0
    """Width of the expert that every token goes to, which has a gate; 0: none."""
    delta_nets: DeltaNets | None = None
    """Those of a hybrid; None for other models."""

    @property
    def attention_layers(self) -> int:
        """Layers with attention, which have keys and values of every token."""
        return self.num_hidden_layers - (self.delta_nets.layers if self.delta_nets else 0)

    @property
    def query_outputs(self) -> int:
        """Width of what queries are projected to; those of a hybrid have a gate for each number."""
        return self.num_attention_heads * self.head_dim * (2 if self.delta_nets else 1)

    @property
    def expert_parameters(self) -> int:
        """Parameters of one expert, or of a dense layer's MLP: three projections."""
        return 3 * self.hidden_size * self.intermediate_size

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer, of a hybrid the larger kind: the four projections of attention or a delta net, the
        MLP, or all experts and their router, and norms."""
        return max(self._layer(self.num_experts, delta) for delta in {False, self.delta_nets is not None})

    @property
    def layers_parameters(self) -> int:
        """Parameters of all layers."""
        return self._layers(self.num_experts)

    @property
    def active_parameters(self) -> int:
        """Parameters of the whole model that one token is computed with."""
        return self.parameters - self.layers_parameters + self._layers(self.num_experts_per_tok)

    def _layers(self, experts: int) -> int:
        deltas = self.num_hidden_layers - self.attention_layers
        found = self.attention_layers * self._layer(experts, False)
        return found + (deltas * self._layer(experts, True) if deltas else 0)

    def _layer(self, experts: int, delta: bool) -> int:
        hidden = self.hidden_size
        if delta and self.delta_nets is not None:
            mixer = self.delta_nets.parameters(hidden)
        else:
            queries = self.num_attention_heads * self.head_dim
            keys = self.num_key_value_heads * self.head_dim
            mixer = hidden * (self.query_outputs + queries + 2 * keys) + 2 * self.head_dim
        mlp = (experts or 1) * self.expert_parameters + self.num_experts * hidden
        shared = hidden * (3 * self.shared_expert_size + 1) if self.shared_expert_size else 0
        return mixer + mlp + shared + 2 * hidden

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the embedding; an untied head has as many."""
        return self.vocab_size * self.hidden_size

    @property
    def parameters(self) -> int:
        """Parameters of the whole model."""
        tables = self.embedding_parameters * (1 if self.tie_word_embeddings else 2)
        return self.layers_parameters + tables + self.hidden_size


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


def _hybrid_a3b(layers: int, experts: int, experts_per_tok: int, vocab: int, in_projections: int) -> ModelShape:
    return ModelShape(
        hidden_size=2048,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=2,
        head_dim=256,
        intermediate_size=512,
        vocab_size=vocab,
        num_experts=experts,
        num_experts_per_tok=experts_per_tok,
        shared_expert_size=512,
        delta_nets=DeltaNets(
            layers=layers // _FULL_ATTENTION_EVERY * (_FULL_ATTENTION_EVERY - 1),
            key_heads=16,
            value_heads=32,
            key_head_dim=128,
            value_head_dim=128,
            conv_kernel=4,
            in_projections=in_projections,
        ),
    )


_QWEN35_35B_A3B = _hybrid_a3b(40, 256, 8, 248320, 4)

KNOWN = {
    "Qwen3-0.6B": _qwen3(1024, 28, 16, 3072, tied=True),
    "Qwen3-1.7B": _qwen3(2048, 28, 16, 6144, tied=True),
    "Qwen3-4B": _qwen3(2560, 36, 32, 9728, tied=True),
    "Qwen3-8B": _qwen3(4096, 36, 32, 12288),
    "Qwen3-14B": _qwen3(5120, 40, 40, 17408),
    "Qwen3-32B": _qwen3(5120, 64, 64, 25600),
    "Qwen3-30B-A3B": _QWEN3_30B_A3B,
    "Qwen3-Coder-30B-A3B-Instruct": _QWEN3_30B_A3B,
    "Qwen3-Next-80B-A3B-Instruct": _hybrid_a3b(48, 512, 10, 151936, 2),
    "Qwen3.5-35B-A3B": _QWEN35_35B_A3B,
    "Qwen3.6-35B-A3B": _QWEN35_35B_A3B,
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
    found = text_of(found)
    values = dict(found)
    if count := experts(found):
        if not _experts_everywhere(found):
            raise UserError(f"{model} is a mixture of {count} experts, whose memory is not known: swe-aem docs memory")
        values |= {"num_experts": count, "intermediate_size": found.get("moe_intermediate_size")}
    if (other := other_than_attention(found)) and kind_of(found) not in _IN_PROJECTIONS:
        raise UserError(f"{model} has layers of the kind {other[0]}, whose memory is not known: swe-aem docs memory")
    try:
        if other:
            values |= {
                "shared_expert_size": found.get("shared_expert_intermediate_size", 0) if count else 0,
                "delta_nets": _delta_nets(found),
            }
        heads = int(values["num_attention_heads"])
        values.setdefault("num_key_value_heads", heads)
        values.setdefault("head_dim", values["hidden_size"] // heads)
        return ModelShape(**{name: values[name] for name in ModelShape.model_fields if name in values})
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{model}: not a decoder whose memory can be estimated: {error}") from error


def _experts_everywhere(found: Mapping[str, Any]) -> bool:
    """Is a mixture of the Qwen3 kind, with routed experts and nothing else behind attention in every layer?"""
    everywhere = found.get("decoder_sparse_step", 1) == 1 and not found.get("mlp_only_layers")
    return found.get("model_type") in {"qwen3_moe", *_IN_PROJECTIONS} and everywhere


def _delta_nets(found: Mapping[str, Any]) -> DeltaNets:
    """Raises `KeyError` for a configuration that does not tell them."""
    kinds = found.get("layer_types")
    if kinds:
        layers = sum(kind == "linear_attention" for kind in kinds)
    else:
        every = found.get("full_attention_interval", _FULL_ATTENTION_EVERY)
        layers = found["num_hidden_layers"] - found["num_hidden_layers"] // every
    return DeltaNets(
        layers=layers,
        key_heads=found["linear_num_key_heads"],
        value_heads=found["linear_num_value_heads"],
        key_head_dim=found["linear_key_head_dim"],
        value_head_dim=found["linear_value_head_dim"],
        conv_kernel=found["linear_conv_kernel_dim"],
        in_projections=_IN_PROJECTIONS[kind_of(found)],
    )
