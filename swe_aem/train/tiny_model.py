"""A model of about a million random weights and a tokenizer for it, from which the quickstart's policy is trained.

Command: `swe-aem init-tiny-model --from STORE --out DIR`, as `configs/quickstart/make_policy.sh` calls it. The store
holds conversations of the kind that the policy will have; byte pairs are merged where they occur there, so that a whole
trajectory is some 200 tokens and not 700. The architecture is Qwen3's, small.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field

from swe_aem.core import Trajectory
from swe_aem.core.base import Frozen
from swe_aem.errors import UserError
from swe_aem.policy import QWEN3_CONTROL_TOKENS, load_tokenizer
from swe_aem.rollout import require_token_ids, require_tokenizer
from swe_aem.store import Store, replace

if TYPE_CHECKING:
    import tokenizers

END, PAD = "<|im_end|>", "<|endoftext|>"
_CALL = r'\{"name": "\w+", "arguments": \{(?:"command": "|\}\})'
_PIECES = _CALL + r"| ?[A-Za-z]+|[0-9]| ?[^\sA-Za-z0-9]+|\s*[\r\n]+|\s+(?!\S)|\s+"
"""Pieces of text that merges stay within: the frame of a tool call (so that it can be one token), words, single digits
(line numbers are copied digit by digit), punctuation, white space."""


class TinyModelConfig(Frozen):
    """Size of the tiny model."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    vocabulary: int = Field(default=704, ge=300)
    """Token ids, control tokens included. The embedding has the next multiple of 64."""
    hidden_size: int = Field(default=128, ge=8)
    """Width of the residual stream."""
    layers: int = Field(default=4, ge=1)
    """Transformer layers."""
    heads: int = Field(default=4, ge=1)
    """Attention heads."""
    kv_heads: int = Field(default=2, ge=1)
    """Key-value heads, a divisor of heads."""
    intermediate_size: int = Field(default=384, ge=8)
    """Width of the MLP."""
    max_tokens: int = Field(default=1024, ge=64)
    """Longest context of the model."""
    seed: int = 0
    """Seed of the weights."""


def init_tiny_model(store: Path, out: Path, config: TinyModelConfig) -> dict[str, int]:
    """Write tokenizer and model to `out`; returns the numbers of parameters and of token ids. Raises `UserError` for a
    store without conversations, or made with another tokenizer than `bytes`."""
    tokenizer = _trained_tokenizer(_texts(store), config.vocabulary)
    out.mkdir(parents=True, exist_ok=True)
    model = _model(tokenizer, config)
    model.save_pretrained(out)
    tokenizer.save(str(out / "tokenizer.json"))
    described = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "pad_token": PAD}
    replace(out / "tokenizer_config.json", json.dumps({**described, "padding_side": "left"}, indent=2) + "\n")
    return {"parameters": sum(weight.numel() for weight in model.parameters()), "tokens": tokenizer.get_vocab_size()}


def _texts(directory: Path) -> list[str]:
    require_tokenizer(directory, None)
    stored = list(Store(directory).trajectories())
    if not stored:
        raise UserError(f"{directory}: no trajectories; roll some out with --agent demo and without --tokenizer")
    for trajectory in stored:
        require_token_ids(directory, trajectory)
    return [text for trajectory in stored for text in _said(trajectory)]


def _said(trajectory: Trajectory) -> Iterator[str]:
    """The trajectory's text between control tokens, which are never merged with anything."""
    tokenizer = load_tokenizer(None)
    piece: list[int] = []
    for token in trajectory.token_ids:
        if token in tokenizer.control_token_ids:
            yield tokenizer.decode(piece)
            piece = []
        else:
            piece.append(token)


def _trained_tokenizer(texts: list[str], size: int) -> "tokenizers.Tokenizer":
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(QWEN3_CONTROL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.add_special_tokens([AddedToken(text, normalized=False) for text in QWEN3_CONTROL_TOKENS])
    return backend


def _model(tokenizer: "tokenizers.Tokenizer", config: TinyModelConfig) -> Any:
    import torch
    from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(config.seed)
    end, pad = tokenizer.token_to_id(END), tokenizer.token_to_id(PAD)
    architecture = Qwen3Config(
        vocab_size=-(-tokenizer.get_vocab_size() // 64) * 64,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        head_dim=config.hidden_size // config.heads,
        max_position_embeddings=config.max_tokens,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
    )
    model = Qwen3ForCausalLM(architecture)
    model.generation_config = GenerationConfig(eos_token_id=[end], pad_token_id=pad)
    return model
