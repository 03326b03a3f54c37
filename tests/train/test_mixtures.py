"""A tiny mixture of experts in the trainer, against a plain forward pass of transformers."""

import copy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from datasets import Dataset  # noqa: E402

from swe_aem.advantage.config import AEMConfig  # noqa: E402
from swe_aem.testing.steps import ScriptedFeed, ScriptedSteps, tiny_prompts, tiny_tokenizer  # noqa: E402
from swe_aem.train.grpo import AgentGRPOTrainer  # noqa: E402
from swe_aem.train.loop import train  # noqa: E402
from swe_aem.train.models import load_model  # noqa: E402
from swe_aem.train.records import read_metrics  # noqa: E402
from swe_aem.train.trl_config import TrlConfig, recipe  # noqa: E402
from tests.train.killable import configuration  # noqa: E402
from tests.train.mixtures import mixture  # noqa: E402
from tests.train.tiny_config import tiny_config  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.contract(trl=True, transformers=True)]

SHARP = 20.0


def trainer_of(model: Any, out: Path, **changes: Any) -> AgentGRPOTrainer:
    return AgentGRPOTrainer(
        model=model,
        args=tiny_config(out, **changes),
        train_dataset=Dataset.from_list(tiny_prompts(8)),
        processing_class=tiny_tokenizer(),
        rollout_func=ScriptedFeed(4),
        advantage=AEMConfig(),
    )


@pytest.mark.parametrize("architecture", ["qwen3_moe", "qwen3_5_moe_text"])
def test_log_probabilities_and_entropies_are_those_of_a_plain_forward_pass(architecture: str, tmp_path: Path) -> None:
    """Of two rows of different lengths, padded on both sides, at a temperature."""
    model = mixture(architecture, sharpness=SHARP)
    plain = copy.deepcopy(model)
    ids = torch.randint(2, 64, (2, 30), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    mask[1, 25:] = 0
    trainer = trainer_of(model, tmp_path, temperature=0.7)
    with torch.no_grad():
        logps, entropies = trainer._score(model, ids, mask, 20, 2)
    for row in range(2):
        kept = mask[row].bool()
        with torch.no_grad():
            logits = plain(ids[row, kept][None]).logits[0].double() / 0.7
        expected = logits.log_softmax(-1)
        completion = int(mask[row, 10:].sum())
        chosen = expected[:-1].gather(1, ids[row, kept][1:, None]).squeeze(1)[-completion:]
        entropy = -(expected.exp() * expected).sum(-1)[:-1][-completion:]
        columns = mask[row, 10:].bool()
        torch.testing.assert_close(logps[row, columns].double(), chosen, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(entropies[row, columns].double(), entropy, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("settings", [(), ("lora={r: 4, experts: true}",)], ids=["full", "adapters"])
def test_a_step_trains_experts(settings: tuple[str, ...], tmp_path: Path) -> None:
    """With all weights the router learns too; nothing balances the load unless it is asked for."""
    mixture(sharpness=SHARP).save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    out = tmp_path / "run"
    train(configuration(tmp_path / "model", 1, *settings), out, ScriptedSteps)
    assert len(read_metrics(out)) == 1
    assert "aux_loss" not in (out / "metrics.jsonl").read_text()
    if settings:
        from safetensors.torch import load_file

        found = load_file(out / "policy" / "adapter_model.safetensors")
        moved = {name for name, one in found.items() if "lora_B" in name and float(one.abs().sum()) > 0}
        assert {"self_attn" in name for name in moved} == {True, False}
        assert sum("mlp.experts" in name for name in moved) == 4
        return
    before, after = (load_model(path).state_dict() for path in (tmp_path / "model", out / "policy"))
    moved = {name for name, one in before.items() if not torch.equal(one, after[name])}
    assert moved >= {name for name in before if ".mlp." in name}


def test_the_loss_that_balances_experts_is_that_of_transformers_if_asked_for(tmp_path: Path) -> None:
    """And the recipe leaves it out, although config.json has a weight for it."""
    losses: dict[float, list[float]] = {}
    for weight in (0.0, 0.5):
        model = mixture(sharpness=SHARP)
        assert model.config.router_aux_loss_coef > 0
        trainer = trainer_of(model, tmp_path, max_steps=1, router_aux_loss_coef=weight)
        trainer.train()
        found: Any = trainer.state.log_history
        assert any("aux_loss" in line for line in found) == bool(weight)
        losses[weight] = [line["aux_loss"] for line in found if "aux_loss" in line]
    assert recipe(TrlConfig())["router_aux_loss_coef"] == 0
    assert losses[0.0] == []
    assert 1 <= losses[0.5][0] / 2 <= 3
