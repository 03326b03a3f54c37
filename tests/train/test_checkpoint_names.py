"""Names and tensors of a checkpoint, made from a model in memory one by one, against what `save_pretrained` writes."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402
from transformers.core_model_loading import Concatenate, WeightConverter  # noqa: E402

from swe_aem.advantage.config import AEMConfig  # noqa: E402
from swe_aem.core.settings import check  # noqa: E402
from swe_aem.serve.command import PLUGIN  # noqa: E402
from swe_aem.testing.steps import ScriptedFeed, tiny_tokenizer  # noqa: E402
from swe_aem.testing.vllm import SimulatedVllm  # noqa: E402
from swe_aem.train.architecture import LEFT_OUT, left_out  # noqa: E402
from swe_aem.train.checkpoint_names import CheckpointNames  # noqa: E402
from swe_aem.train.config import TrainConfig  # noqa: E402
from swe_aem.train.grpo import AgentGRPOTrainer  # noqa: E402
from swe_aem.train.models import load_model  # noqa: E402
from tests.train.bringing import bringing  # noqa: E402
from tests.train.mixtures import SHAPES, mixture  # noqa: E402

pytestmark = pytest.mark.torch


def saved(directory: Path) -> dict[str, Any]:
    """The tensors of a checkpoint."""
    return {name: one for path in directory.glob("*.safetensors") for name, one in load_file(path).items()}


def named(model: Any) -> dict[str, Any]:
    """The model's tensors as its checkpoint would have them."""
    return dict(CheckpointNames(model)(model.state_dict().items()))


def require_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """The same names, formats, shapes and bits."""
    assert sorted(found) == sorted(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("architecture", SHAPES)
def test_a_models_tensors_are_those_that_save_pretrained_writes(architecture: str, tmp_path: Path) -> None:
    """Of a model that was made here and of one that was read; and what is read from them is the model."""
    model = mixture(architecture)
    model.save_pretrained(tmp_path / "saved")
    require_same(named(model), saved(tmp_path / "saved"))
    assert CheckpointNames(model).shapes == {name: tuple(one.shape) for name, one in named(model).items()}
    save_file({name: one.contiguous() for name, one in named(model).items()}, tmp_path / "saved" / "model.safetensors")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    require_same(again.state_dict(), model.state_dict())
    require_same(named(again), saved(tmp_path / "saved"))


@pytest.mark.parametrize("architecture", ["qwen3_moe", "qwen3_next", "gpt_oss"])
def test_a_trainer_that_resumes_has_the_trained_experts(
    architecture: str, tmp_path: Path, make_config: Any, dataset: Any
) -> None:
    trained, model = mixture(architecture), mixture(architecture, seed=1)
    trained.save_pretrained(tmp_path)
    trainer = AgentGRPOTrainer(
        model=model,
        args=make_config(),
        train_dataset=dataset,
        processing_class=tiny_tokenizer(),
        rollout_func=ScriptedFeed(4),
        advantage=AEMConfig(),
    )
    trainer._load_from_checkpoint(str(tmp_path))
    require_same(model.state_dict(), trained.state_dict())


def test_tensors_come_one_by_one(tmp_path: Path) -> None:
    """Nothing is asked for before what came is used."""
    model = mixture("qwen3_moe")
    asked: list[str] = []

    def one_by_one() -> Any:
        for name, tensor in model.state_dict().items():
            asked.append(name)
            yield name, tensor

    for name, _ in CheckpointNames(model)(one_by_one()):
        assert asked[-1].split(".mlp.")[0] == name.split(".mlp.")[0]
    assert asked == list(model.state_dict())


def test_experts_that_a_checkpoint_holds_as_one_tensor_stay_one(tmp_path: Path) -> None:
    """Checkpoints of Qwen3.5 have them so; what was read decides, not the architecture."""
    model = mixture("qwen3_5_moe_text")
    model.save_pretrained(tmp_path)
    fused = {name: one.contiguous() for name, one in model.state_dict().items()}
    save_file(fused, tmp_path / "model.safetensors", {"format": "pt"})
    require_same(named(AutoModelForCausalLM.from_pretrained(tmp_path)), fused)


def test_a_prefix_of_the_checkpoint_returns(tmp_path: Path) -> None:
    """Qwen3.5's text model is a part of a model with vision, whose checkpoint calls it `language_model`."""
    model = mixture("qwen3_5_moe_text")
    model.save_pretrained(tmp_path)
    prefixed = {name.replace("model.", "model.language_model.", 1): one for name, one in saved(tmp_path).items()}
    save_file(prefixed, tmp_path / "model.safetensors", {"format": "pt"})
    require_same(named(AutoModelForCausalLM.from_pretrained(tmp_path)), prefixed)


def with_vision() -> Any:
    """A tiny Qwen3.5 with experts that sees images, as its checkpoints are."""
    from transformers import Qwen3_5MoeConfig, Qwen3_5MoeForConditionalGeneration

    torch.manual_seed(0)
    vision = {
        "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "num_position_embeddings": 16,
        "out_hidden_size": SHAPES["qwen3_5_moe_text"]["hidden_size"],
    }  # fmt: skip
    text = SHAPES["qwen3_5_moe_text"]
    return Qwen3_5MoeForConditionalGeneration(Qwen3_5MoeConfig(text_config=text, vision_config=vision))


def test_of_a_model_with_vision_only_what_is_not_trained_is_missing(tmp_path: Path) -> None:
    """And what was trained goes back into it as the docs say."""
    whole = with_vision()
    whole.save_pretrained(tmp_path)
    files, text = saved(tmp_path), load_model(tmp_path)
    sent = named(text)
    missing = files.keys() - sent.keys()
    assert missing == {name for name in files if name.startswith(LEFT_OUT)} == set(left_out(str(tmp_path)))
    require_same(sent, {name: one for name, one in files.items() if name not in missing})
    with torch.no_grad():
        for parameter in text.parameters():
            parameter += 1
    whole.model.language_model.load_state_dict(text.model.state_dict())
    whole.lm_head.load_state_dict(text.lm_head.state_dict())
    whole.save_pretrained(tmp_path)
    again = saved(tmp_path)
    require_same(again, {name: files[name] for name in missing} | named(text))


def test_the_plugin_of_servers_lets_the_same_tensors_be_missing() -> None:
    lines = (PLUGIN / "swe_aem_vllm.py").read_text().splitlines()
    assert f"LEFT_OUT = {LEFT_OUT}".replace("'", '"') in lines


def test_what_several_tensors_of_the_model_make_waits_for_the_last(tmp_path: Path) -> None:
    """No model of ours is so: here the queries and keys of each layer are one tensor of the checkpoint."""
    model = mixture("qwen3")

    class Parted(Concatenate):
        @property
        def reverse_op(self) -> Any:
            return Concatenate(self.dim)

    parts = ["self_attn.k_proj.weight", "self_attn.v_proj.weight"]
    model._weight_conversions = [WeightConverter("self_attn.kv.weight", parts, [Parted(dim=0)])]
    found = named(model)
    state = model.state_dict()
    for layer in ("model.layers.0", "model.layers.1"):
        both = torch.cat([state[f"{layer}.{part}"] for part in parts])
        assert torch.equal(found.pop(f"{layer}.self_attn.kv.weight"), both)
    assert found.keys() == {name for name in state if not name.endswith(tuple(parts))}


async def test_servers_get_the_names_of_the_checkpoint(tmp_path: Path) -> None:
    model = mixture("qwen3_moe")
    model.save_pretrained(tmp_path / "model")
    async with SimulatedVllm() as server:
        config = check(TrainConfig, {
            "model": str(tmp_path / "model"), "steps": 1, "groups_per_step": 1, "rollout": {"group_size": 2},
            "servers": {"urls": [server.url], "directory": str(tmp_path / "weights")},
        })  # fmt: skip
        async with bringing(config, tmp_path, model) as (_, bring):
            await bring(model, 1)
            [sent] = (tmp_path / "weights").rglob("*.safetensors")
            require_same(load_file(sent), saved(tmp_path / "model"))
