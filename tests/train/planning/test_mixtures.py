"""The formula of docs/memory.md for mixtures of experts, against what real models hold on this CPU."""

import copy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from swe_aem.errors import UserError  # noqa: E402
from swe_aem.train.config import LoraConfig, read_config  # noqa: E402
from swe_aem.train.models import adapted  # noqa: E402
from swe_aem.train.planning.memory import lora_parameters, trainer_memory  # noqa: E402
from swe_aem.train.planning.micro_step import BYTES, Rows  # noqa: E402
from swe_aem.train.planning.plan import plan  # noqa: E402
from swe_aem.train.planning.shapes import KNOWN, ModelShape, shape_of  # noqa: E402
from tests.train.mixtures import mixture  # noqa: E402
from tests.train.planning.test_memory import HELD, TOKENS, forward_bytes, kept_bytes  # noqa: E402

pytestmark = pytest.mark.torch

BASE = {
    "hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 512,
    "num_hidden_layers": 3, "moe_intermediate_size": 96, "num_experts": 8, "num_experts_per_tok": 2,
}  # fmt: skip
CHANGES: list[dict[str, int]] = [{}, {"moe_intermediate_size": 192, "num_experts": 32}, {"num_experts_per_tok": 4}]


@pytest.fixture(params=CHANGES, ids=["base", "many", "busy"], scope="module")
def made(request: Any, tmp_path_factory: Any) -> tuple[ModelShape, Any]:
    """(shape as its config.json tells it, a model of it, float32)."""
    model = mixture("qwen3_moe", **(BASE | request.param)).float().train()
    directory = tmp_path_factory.mktemp("model")
    model.config.save_pretrained(directory)
    return shape_of(str(directory)), model


def test_parameters_are_exact(made: tuple[ModelShape, Any]) -> None:
    """And those that a token is computed with: all but those of the experts that it does not go to."""
    shape, model = made
    assert sum(one.numel() for one in model.parameters()) == shape.parameters
    idle = (shape.num_experts - shape.num_experts_per_tok) * sum(
        one[0].numel() for name, one in model.named_parameters() if ".experts." in name
    )
    assert shape.active_parameters == shape.parameters - idle


ADAPTERS = pytest.mark.parametrize("experts", [None, False, True], ids=["full", "lora", "experts"])


@ADAPTERS
@HELD
def test_activations_are_within_a_twentieth(
    made: tuple[ModelShape, Any], dtype: str, compute: str, experts: bool | None
) -> None:
    """And what does not grow with the tokens: autocast's copies of weights, and experts with their adapters added."""
    shape, model = made
    model, autocast = copy.deepcopy(model).to(getattr(torch, dtype)), dtype != compute
    rank, inner = None if experts is None else 16, model.model
    if rank is not None:
        model = adapted(model, LoraConfig(r=rank, experts=experts))

    def kept(tokens: int) -> int:
        hidden = torch.randn(1, tokens, shape.hidden_size, dtype=getattr(torch, dtype), requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return kept_bytes(model, lambda: inner(inputs_embeds=hidden, use_cache=False).last_hidden_state)

    per_token = (kept(2 * TOKENS) - kept(TOKENS)) / TOKENS
    settings: Any = {"checkpointing": False, "lora_rank": rank, "expert_adapters": bool(experts)}
    assert per_token == pytest.approx(forward_bytes(shape, compute, autocast=autocast, **settings), rel=0.05)
    estimate = trainer_memory(shape, rows=Rows(tokens=TOKENS), dtype=dtype, compute=compute, shards=1, **settings)
    copies, expected = kept(TOKENS) - TOKENS * per_token, estimate.computing
    on_linear, on_all = (lora_parameters(shape, 16, experts=one) for one in (False, True))
    if experts:  # less a gradient, which no forward pass has, and with what peft casts to the format of 16-bit experts
        expected -= shape.num_experts * shape.expert_parameters * BYTES[dtype]
        expected += 2 * (on_all - on_linear) if dtype == "bfloat16" else 0
    if rank is not None and autocast:
        expected += 2 * on_linear
    assert copies == pytest.approx(expected, rel=0.03, abs=1000)


@pytest.mark.parametrize("experts", [False, True])
def test_an_adapter_is_exact(made: tuple[ModelShape, Any], experts: bool) -> None:
    shape, model = made
    with_adapter = adapted(copy.deepcopy(model), LoraConfig(r=4, experts=experts))
    trained = sum(one.numel() for one in with_adapter.parameters() if one.requires_grad)
    assert trained == lora_parameters(shape, 4, experts=experts)


def test_a_mixture_with_dense_layers_is_not_planned(tmp_path: Path) -> None:
    mixture("qwen3_moe", mlp_only_layers=[0]).config.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="whose memory is not known"):
        shape_of(str(tmp_path))


def test_a_known_mixture_is_planned_before_it_is_here() -> None:
    shape = KNOWN["Qwen3-Coder-30B-A3B-Instruct"]
    assert shape.parameters == 30_532_122_624
    config = read_config(Path("configs/quickstart.yaml"), ["model=models/Qwen3-Coder-30B-A3B-Instruct"])
    assert any("30,532.1 million parameters, 3,353.0 million of them for each token" in line
               for line in plan(config, Path("runs/x")))  # fmt: skip
