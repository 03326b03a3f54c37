"""What a run leaves is the trained model where transformers loads it: `policy/`, and an exported checkpoint."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from safetensors.torch import load_file  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

from swe_aem.testing.steps import ScriptedSteps, tiny_tokenizer  # noqa: E402
from swe_aem.train import loop  # noqa: E402
from swe_aem.train.export_checkpoint import export_checkpoint  # noqa: E402
from swe_aem.train.models import load_model  # noqa: E402
from tests.train.killable import configuration  # noqa: E402
from tests.train.mixtures import mixture  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.contract(trl=True, transformers=True)]
IDS = torch.arange(2, 34)[None]
ADAPTER, EXPERTS = "lora={r: 4}", "lora={r: 4, experts: true}"


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The models of runs as they were when training ended."""
    models: list[Any] = []
    write = loop._Run._write_policy

    def kept(run: Any, trainer: Any, files: Any) -> None:
        models.append(copy.deepcopy(trainer.accelerator.unwrap_model(trainer.model)))
        write(run, trainer, files)

    monkeypatch.setattr(loop._Run, "_write_policy", kept)
    return models


def says(model: Any) -> tuple[Any, list[int]]:
    """Its logits, and what it samples: the likeliest words and some at random."""
    with torch.no_grad():
        torch.manual_seed(0)
        sampled = model.eval().generate(IDS, attention_mask=torch.ones_like(IDS), do_sample=True, max_new_tokens=16)
        return model(IDS).logits, sampled.tolist()[0]


@pytest.mark.parametrize(
    ("architecture", "tied", "dtype", "settings"),
    [
        ("qwen3", True, torch.float16, ()),
        ("qwen3_moe", True, torch.bfloat16, ()),
        ("qwen3", True, torch.float32, (ADAPTER,)),
        ("qwen3_moe", False, torch.float32, (EXPERTS,)),
        *(
            pytest.param(architecture, tied, dtype, settings, marks=pytest.mark.nightly)
            for architecture, tied, dtype, settings in [
                ("qwen3", True, torch.float32, ()),
                ("qwen3", False, torch.bfloat16, ()),
                ("qwen3", False, torch.bfloat16, (ADAPTER,)),
                ("qwen3_moe", False, torch.float32, ()),
                ("qwen3_moe", True, torch.bfloat16, (EXPERTS,)),
                ("gpt_oss", False, torch.bfloat16, ()),
                ("qwen3_next", True, torch.bfloat16, ()),
                ("qwen3_5_moe_text", True, torch.bfloat16, ()),
            ]
        ),
    ],
)
def test_policy_and_export_are_the_trained_model(
    architecture: str, tied: bool, dtype: Any, settings: tuple[str, ...], tmp_path: Path, trained: list[Any]
) -> None:
    """In the data type that the model had before, as config.json says; an adapter in float32."""
    model = mixture(architecture, tie_word_embeddings=tied, sharpness=20.0)
    model.to(dtype).save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    run, to = tmp_path / "run", tmp_path / "exported"
    loop.train(configuration(tmp_path / "model", 1, "save_every=1", *settings), run, ScriptedSteps)
    assert export_checkpoint(run, to) == 1
    if settings:
        expected = says(trained[0])
    else:
        reference = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype="auto")
        reference.load_state_dict(trained[0].state_dict())
        expected = says(reference)
        assert {one.dtype for one in load_file(to / "model.safetensors").values()} == {dtype}
        assert json.loads((to / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")
    before = load_model(tmp_path / "model")
    assert not torch.equal(says(before)[0], expected[0].float()), "nothing was trained"
    for place in (run / "policy", to):
        loaded = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32 if settings else "auto")
        logits, sampled = says(loaded)
        assert torch.equal(logits, expected[0])
        assert sampled == expected[1]
        assert AutoTokenizer.from_pretrained(place).pad_token == "<pad>"
