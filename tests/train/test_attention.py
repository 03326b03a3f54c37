"""The setting `attention` reaches transformers, and is refused where it could not be honoured."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
transformers = pytest.importorskip("transformers", reason="needs the train extra")

from swe_aem.core.settings import check  # noqa: E402
from swe_aem.errors import UserError  # noqa: E402
from swe_aem.testing.steps import save_tiny  # noqa: E402
from swe_aem.train import refusals  # noqa: E402
from swe_aem.train.config import TrainConfig  # noqa: E402
from swe_aem.train.models import load_model  # noqa: E402
from swe_aem.train.refusals import reasons_at_start  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.contract(transformers=True)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tiny")
    save_tiny(directory)
    return directory


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)


@pytest.mark.parametrize(("attention", "used"), [("auto", "sdpa"), ("sdpa", "sdpa"), ("eager", "eager")])
def test_the_model_attends_as_asked(tiny: Path, attention: Any, used: str) -> None:
    assert load_model(tiny, attention=attention).config._attn_implementation == used


@pytest.mark.parametrize(
    ("attention", "kernel"),
    [
        ("flash_attention_2", "kernels-community/flash-attn2"),
        ("flash_attention_3", "kernels-community/vllm-flash-attn3"),
    ],
)
def test_flash_attention_is_asked_of_transformers_which_may_take_it_from_the_hub(
    gpu: None, monkeypatch: pytest.MonkeyPatch, attention: Any, kernel: str
) -> None:
    for used in (attention, kernel):
        asked: list[Any] = []

        def loaded(*given: Any, used: str = used, asked: list[Any] = asked, **settings: Any) -> Any:
            asked.append(settings["attn_implementation"])
            return SimpleNamespace(config=SimpleNamespace(_attn_implementation=used))

        monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", loaded)
        load_model("m", dtype="bfloat16", attention=attention)
        assert asked == [attention]


def test_another_attention_than_the_one_asked_for_is_refused(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    other = SimpleNamespace(config=SimpleNamespace(_attn_implementation="flash_attention_2"))
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", lambda *_, **__: other)
    with pytest.raises(
        UserError, match="attention=flash_attention_3 is not what m would use, which is flash_attention_2"
    ):
        load_model("m", attention="flash_attention_3")


def test_a_host_without_a_gpu_has_no_flash_attention(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(UserError, match="attention=flash_attention_2 needs a GPU, and this host has none"):
        load_model(tiny, attention="flash_attention_2")


def test_a_package_that_is_missing_is_named(gpu: None, tiny: Path) -> None:
    """By transformers, where nobody has asked before."""
    if refusals.find_spec("kernels") or refusals.find_spec("flash_attn"):
        pytest.skip("installed here")
    with pytest.raises(UserError, match=r"no model that transformers can load: .*[Ff]lash"):
        load_model(tiny, dtype="bfloat16", attention="flash_attention_2")


@pytest.mark.parametrize(
    ("changed", "installed", "sharded", "said"),
    [
        ({"attention": "sdpa"}, (), False, []),
        ({"dtype": "bfloat16"}, ("kernels",), False, []),
        ({"dtype": "bfloat16"}, ("flash_attn_interface",), False, []),
        ({"grpo": {"bf16": True}}, ("kernels",), False, []),
        ({}, ("kernels",), True, []),
        ({}, ("kernels",), False, ["takes 16-bit numbers"]),
        ({"dtype": "bfloat16"}, ("flash_attn",), False, ["uv pip install kernels"]),
        ({"dtype": "bfloat16", "device": "cpu"}, ("kernels",), False, ["device is cpu"]),
    ],
)
def test_what_cannot_be_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], installed: tuple[str, ...], sharded: bool, said: list[str]
) -> None:
    monkeypatch.setattr(refusals, "find_spec", lambda name: name in installed or None)
    values = {"model": "m", "steps": 1, "groups_per_step": 1, "rollout": {"group_size": 2}}
    config = check(TrainConfig, {"attention": "flash_attention_3", **values, **changed})
    reasons = [one for one in reasons_at_start(config, sharded=sharded) if one.startswith("attention")]
    assert len(reasons) == len(said)
    assert all(words in reason for words, reason in zip(said, reasons, strict=True))
