"""Adapters on the experts of a mixture: what peft puts where, and what servers get of it."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("peft", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from safetensors.torch import load_file  # noqa: E402

from swe_aem.core.settings import check  # noqa: E402
from swe_aem.testing.vllm import SimulatedVllm  # noqa: E402
from swe_aem.train import models  # noqa: E402
from swe_aem.train.checkpoint_names import CheckpointNames  # noqa: E402
from swe_aem.train.config import LoraConfig, TrainConfig  # noqa: E402
from swe_aem.train.expert_adapters import ExpertAdapterNames  # noqa: E402
from tests.train.adapters import disturbed  # noqa: E402
from tests.train.bringing import bringing  # noqa: E402
from tests.train.mixtures import mixture  # noqa: E402

pytestmark = pytest.mark.torch

FIRST = "base_model.model.model.layers.0."
ATTENTION = {f"self_attn.{name}_proj" for name in "qkvo"}
EXPERTS = {"mlp.experts", "mlp.experts.base_layer"}
SHARED = {f"mlp.shared_expert.{name}_proj" for name in ("gate", "up", "down")} | {"mlp.shared_expert_gate"}
LINEAR_ATTENTION = {
    "qwen3_next": {"linear_attn.in_proj_qkvz", "linear_attn.in_proj_ba", "linear_attn.out_proj"},
    "qwen3_5_moe_text": {f"linear_attn.{name}" for name in (
        "in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a", "out_proj",
    )},
}  # fmt: skip


def adapted(model: Any, **settings: Any) -> Any:
    """The model with an adapter that changes what it says."""
    return disturbed(models.adapted(model, LoraConfig(r=4, alpha=8, **settings)), std=0.3)


def places(model: Any) -> set[str]:
    """Modules of the first layer that have an adapter."""
    return {name.removeprefix(FIRST).partition(".lora_A")[0]
            for name in model.state_dict() if name.startswith(FIRST) and "lora_A" in name}  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "settings", "expected"),
    [
        ("qwen3_moe", {"experts": False}, ATTENTION),
        ("qwen3_moe", {"experts": True}, ATTENTION | EXPERTS),
        ("qwen3_moe", {"target_modules": ("q_proj",)}, {"self_attn.q_proj"}),
        ("qwen3_moe", {"target_modules": ("q_proj",), "experts": True}, {"self_attn.q_proj"} | EXPERTS),
        ("qwen3_next", {"experts": True}, LINEAR_ATTENTION["qwen3_next"] | SHARED | EXPERTS),
        ("qwen3_5_moe_text", {"experts": True}, LINEAR_ATTENTION["qwen3_5_moe_text"] | SHARED | EXPERTS),
        ("gpt_oss", {"experts": True}, ATTENTION | EXPERTS),
        ("qwen3", {}, ATTENTION | {"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}),
    ],
)
def test_the_adapter_is_where_the_settings_say(architecture: str, settings: dict[str, Any], expected: set[str]) -> None:
    """Never on the router; and each has the rank that was asked for."""
    model = adapted(mixture(architecture), **settings)
    assert places(model) == expected
    for name, tensor in model.state_dict().items():
        if "lora_A" in name:
            assert tensor.shape[0] in (4, 4 * model.config.to_dict().get("num_local_experts", 6))


@pytest.mark.parametrize("architecture", ["qwen3_moe", "qwen3_5_moe_text"])
def test_what_servers_get_of_an_expert_changes_it_as_in_training(architecture: str) -> None:
    """B A alpha / r of each projection of each expert, added to the checkpoint's tensor, gives the merged model."""
    model = adapted(mixture(architecture), experts=True)
    sent = dict(ExpertAdapterNames(model)(model.state_dict().items()))
    base = model.get_base_model()
    checkpoint = {name: tensor.clone() for name, tensor in CheckpointNames(mixture(architecture))(
        mixture(architecture).state_dict().items()
    )}  # fmt: skip
    for name, first in sent.items():
        if ".lora_A." in name:
            second = sent[name.replace(".lora_A.", ".lora_B.")]
            place = name.removeprefix("base_model.model.").partition(".lora_A")[0]
            checkpoint[f"{place}.weight"] += second @ first * 2
    assert sum(".experts.5.gate_proj.lora_A" in name for name in sent) == base.config.num_hidden_layers
    merged = model.merge_and_unload()
    for name, tensor in CheckpointNames(merged)(merged.state_dict().items()):
        torch.testing.assert_close(tensor, checkpoint[name], msg=name)


async def test_servers_get_experts_one_by_one(tmp_path: Path) -> None:
    mixture().save_pretrained(tmp_path / "model")
    model = adapted(mixture(), experts=True)
    async with SimulatedVllm() as server:
        config = check(TrainConfig, {
            "model": str(tmp_path / "model"), "steps": 1, "groups_per_step": 1, "rollout": {"group_size": 2},
            "lora": {"r": 4, "experts": True},
            "servers": {"urls": [server.url], "sync": "lora", "directory": str(tmp_path / "weights")},
        })  # fmt: skip
        async with bringing(config, tmp_path, model) as (_, bring):
            await bring(model, 1)
            [sent] = (tmp_path / "weights").rglob("adapter_model.safetensors")
            names = load_file(sent).keys()
    assert f"{FIRST}mlp.experts.5.up_proj.lora_B.weight" in names
    assert not any("base_layer" in name for name in names)
