"""What the quickstart's policy is trained from: a model of two million random weights that looks back, and a tokenizer.

Command: `swe-aem init-tiny-model --from STORE --out DIR`, for a model of your own; `configs/quickstart/make_policy.py`
trains such a model. The store holds conversations of the kind that the policy will have; byte pairs are merged where
they occur there, so that a whole trajectory is some 200 tokens and not 700. The architecture is Qwen3's, small.
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
from swe_aem.train.look_back import look_back

if TYPE_CHECKING:
    import tokenizers

END, PAD = "<|im_end|>", "<|endoftext|>"
_FRAMES = (
    r'\{"name": "\w+", "arguments": \{(?:"command": "|\}\})',
    r"ls \./\*\.py; grep -nFB3 '",
    r"' \*\.py\"\}\}",
    r"sed -i '",
    r"s\|\.\*\|",
    r"\|' \./",
    r"\.py\"\}\}",
    r"`: `",
    r"; `",
    r"`\?\n",
)
"""What is the same around whatever is copied: of a tool call, of the demonstrations' commands, of an issue."""
_PIECES = "|".join(
    (
        *_FRAMES,
        r" ?[A-Za-z]+",
        " ?[0-9]",
        " ?(?:==|!=|<=|>=|//|[-+*]=)",
        r" ?[^\sA-Za-z0-9]",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)
"""Pieces of text that merges stay within: frames (so that each can be one token), words, single digits, operators,
single signs, white space. Code reads the same wherever it is, so a line can be copied token by token."""


class TinyModelConfig(Frozen):
    """Size of the tiny model."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    vocabulary: int = Field(default=704, ge=300)
    """Token ids, control tokens included. The embedding has the next multiple of 64."""
    hidden_size: int = Field(default=192, ge=12, multiple_of=12)
    """Width of the residual stream, a multiple of 12: six heads, each of an even width."""
    layers: int = Field(default=4, ge=1)
    """Transformer layers."""
    heads: int = Field(default=6, ge=1)
    """Attention heads."""
    kv_heads: int = Field(default=3, ge=1)
    """Key-value heads, a divisor of heads."""
    intermediate_size: int = Field(default=640, ge=8)
    """Width of the MLP."""
    max_tokens: int = Field(default=1024, ge=64)
    """Longest context of the model."""
    seed: int = 0
    """Seed of the weights."""


def init_tiny_model(store: Path, out: Path, config: TinyModelConfig) -> dict[str, int]:
    """Write tokenizer and model to `out`; returns the numbers of parameters and of token ids. Raises `UserError` for a
    store without conversations, or made with another tokenizer than `bytes`."""
    tokenizer = trained_tokenizer(_texts(store), config.vocabulary)
    out.mkdir(parents=True, exist_ok=True)
    model = random_model(tokenizer, config)
    model.save_pretrained(out)
    save_tokenizer(tokenizer, out)
    return {"parameters": sum(weight.numel() for weight in model.parameters()), "tokens": tokenizer.get_vocab_size()}


def save_tokenizer(tokenizer: "tokenizers.Tokenizer", out: Path) -> None:
    """Write it into the directory of a model."""
    tokenizer.save(str(out / "tokenizer.json"))
    described = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "pad_token": PAD}
    replace(out / "tokenizer_config.json", json.dumps({**described, "padding_side": "left"}, indent=2) + "\n")


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


def trained_tokenizer(texts: list[str], size: int) -> "tokenizers.Tokenizer":
    """Byte pairs merged within pieces of the texts, and the control tokens; `size` ids in all."""
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


def random_model(tokenizer: "tokenizers.Tokenizer", config: TinyModelConfig) -> Any:
    """A `Qwen3ForCausalLM` of random weights that looks back."""
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
    look_back(model)
    model.generation_config = GenerationConfig(eos_token_id=[end], pad_token_id=pad)
    return model
