"""Memory of hybrids of attention and delta nets, against what real models hold on this CPU."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from transformers import AutoConfig  # noqa: E402

from swe_aem.train.config import LoraConfig, read_config  # noqa: E402
from swe_aem.train.models import adapted  # noqa: E402
from swe_aem.train.planning.memory import (  # noqa: E402
    cache_bytes_per_token,
    lora_parameters,
    state_bytes,
    trainer_memory,
)
from swe_aem.train.planning.micro_step import Rows  # noqa: E402
from swe_aem.train.planning.plan import plan  # noqa: E402
from swe_aem.train.planning.shapes import KNOWN, ModelShape, shape_of  # noqa: E402
from tests.train.mixtures import SHAPES, mixture  # noqa: E402

pytestmark = pytest.mark.torch

HYBRIDS = ["qwen3_next", "qwen3_5_moe_text", "qwen3_5_text"]


@pytest.fixture(params=HYBRIDS, scope="module")
def made(request: Any, tmp_path_factory: Any) -> tuple[ModelShape, Any]:
    """(shape as its config.json tells it, a model of it, float32)."""
    widths = {"shared_expert_intermediate_size": 24} if request.param != "qwen3_5_text" else {}
    model = mixture(request.param, linear_key_head_dim=16, **widths)
    directory = tmp_path_factory.mktemp("model")
    model.config.save_pretrained(directory)
    return shape_of(str(directory)), model


def test_parameters_are_exact(made: tuple[ModelShape, Any]) -> None:
    """And those that a token is computed with, and those of the larger kind of layer."""
    shape, model = made
    assert sum(one.numel() for one in model.parameters()) == shape.parameters
    layers = [sum(one.numel() for one in layer.parameters()) for layer in model.model.layers]
    assert (sum(layers), max(layers)) == (shape.layers_parameters, shape.layer_parameters)
    idle = (shape.num_experts - shape.num_experts_per_tok) * sum(
        one[0].numel() for name, one in model.named_parameters() if ".experts." in name
    )
    assert shape.active_parameters == shape.parameters - idle


@pytest.mark.parametrize("experts", [False, True])
def test_an_adapter_is_exact(made: tuple[ModelShape, Any], experts: bool) -> None:
    shape, model = made
    if experts and not shape.num_experts:
        pytest.skip("a dense model")
    lora = LoraConfig(r=4, experts=experts if shape.num_experts else None)
    found = adapted(mixture(model.config.model_type, **changes(model)), lora)
    trained = sum(one.numel() for one in found.parameters() if one.requires_grad)
    assert trained == lora_parameters(shape, 4, experts=experts)


def changes(model: Any) -> dict[str, int]:
    """What `made` changed in the model's shape."""
    names = {"linear_key_head_dim", "shared_expert_intermediate_size"} & model.config.to_dict().keys()
    return {name: getattr(model.config, name) for name in names}


def test_a_sequence_s_cache_and_state_are_exact(made: tuple[ModelShape, Any]) -> None:
    shape, model = made

    def held(tokens: int) -> int:
        with torch.no_grad():
            cache = model(torch.randint(0, 64, (1, tokens)), use_cache=True).past_key_values
        kept = torch.utils._pytree.tree_leaves([vars(layer) for layer in cache.layers])
        return sum(one.nbytes for one in kept if isinstance(one, torch.Tensor))

    per_token = (held(24) - held(16)) // 8
    assert per_token == cache_bytes_per_token(shape, "float32")
    assert held(16) - 16 * per_token == state_bytes(shape, "float32")


def test_weights_gradients_and_moments_follow(made: tuple[ModelShape, Any]) -> None:
    shape, model = made
    found = trainer_memory(
        shape, rows=Rows(tokens=8), dtype="float32", compute="bfloat16", shards=1, checkpointing=True
    )
    assert found.weights == found.gradients == found.optimiser / 2 == sum(one.nbytes for one in model.parameters())


@pytest.mark.parametrize(
    ("name", "architecture"), [("Qwen3-Next-80B-A3B-Instruct", "qwen3_next"), ("Qwen3.5-35B-A3B", "qwen3_5_moe_text")]
)
def test_known_hybrids_are_those_that_transformers_has_as_its_default(
    name: str, architecture: str, tmp_path: Path
) -> None:
    AutoConfig.for_model(architecture).save_pretrained(tmp_path)
    assert shape_of(str(tmp_path)) == KNOWN[name]
    assert 2e9 < KNOWN[name].active_parameters < 4.5e9


def test_a_model_with_vision_has_the_shape_of_its_text(tmp_path: Path) -> None:
    from transformers import Qwen3_5MoeConfig

    Qwen3_5MoeConfig(text_config=SHAPES["qwen3_5_moe_text"]).save_pretrained(tmp_path / "whole")
    AutoConfig.for_model("qwen3_5_moe_text", **SHAPES["qwen3_5_moe_text"]).save_pretrained(tmp_path / "text")
    assert shape_of(str(tmp_path / "whole")) == shape_of(str(tmp_path / "text"))


def test_a_plan_says_what_it_does_not_know() -> None:
    config = read_config(Path("configs/qwen3-8b-1node.yaml"), ["model=models/Qwen3.5-35B-A3B"])
    lines = "\n".join(plan(config, Path("runs/hybrid")))
    assert "34,660.6 million parameters, " in lines
    assert "not counted: what layers keep for the backward pass" in lines
    assert "MB of state each" in lines
