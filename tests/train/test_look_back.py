"""A model that looks back from the beginning: where its first layer attends, and that the other layers add nothing."""

from typing import Any

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch", reason="needs the transformers extra")

from transformers import Qwen3Config, Qwen3ForCausalLM  # noqa: E402
from transformers.models.qwen3.modeling_qwen3 import apply_rotary_pos_emb  # noqa: E402

from swe_aem.train.look_back import look_back  # noqa: E402

LENGTH = 150


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    size = {"hidden_size": 192, "intermediate_size": 64, "num_hidden_layers": 3, "head_dim": 32, "vocab_size": 704}
    made = Qwen3ForCausalLM(
        Qwen3Config(num_attention_heads=6, num_key_value_heads=3, tie_word_embeddings=True, **size)  # pyright: ignore
    )
    look_back(made)
    return made.eval()


def test_heads_attend_to_the_nearest_places(model: Any) -> None:
    tokens = torch.randint(0, 704, (1, LENGTH))
    with torch.no_grad():
        embedded = model.model.embed_tokens(tokens)
        rotation = model.model.rotary_emb(embedded, torch.arange(LENGTH)[None])
        layer = model.model.layers[0]
        attention, read = layer.self_attn, layer.input_layernorm(embedded)
        queries = attention.q_norm(attention.q_proj(read).view(1, LENGTH, -1, 32)).transpose(1, 2)
        keys = attention.k_norm(attention.k_proj(read).view(1, LENGTH, -1, 32)).transpose(1, 2)
        queries, keys = apply_rotary_pos_emb(queries, keys, *rotation)
        scores = (queries @ keys.repeat_interleave(2, 1).transpose(2, 3) / 32**0.5)[0]
    later = torch.ones(LENGTH, LENGTH).triu(1).bool()
    shares = scores.masked_fill(later, -torch.inf).softmax(-1)
    for head in range(4):
        assert shares[head].diagonal(-1 - head)[20:].min() > 0.9


def test_later_layers_begin_by_adding_nothing(model: Any) -> None:
    read = torch.randn(1, 5, 192)
    rotation = model.model.rotary_emb(read, torch.arange(5)[None])
    with torch.no_grad():
        for layer in model.model.layers[1:]:
            given = layer(read, position_embeddings=rotation)
            assert torch.equal(given[0] if isinstance(given, tuple) else given, read)
