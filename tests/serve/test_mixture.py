"""A mixture of experts on a real vLLM server: weights arrive, and log-probabilities are those of transformers."""

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from safetensors.torch import save_file  # noqa: E402

from swe_aem.core import SamplingParams  # noqa: E402
from swe_aem.core.settings import check  # noqa: E402
from swe_aem.errors import PolicyError, UserError  # noqa: E402
from swe_aem.policy import RunRefused, VllmClientConfig, VllmPolicy  # noqa: E402
from swe_aem.train.config import TrainConfig  # noqa: E402
from tests.conftest import QUICKSTART  # noqa: E402
from tests.train.bringing import bringing  # noqa: E402
from tests.train.mixtures import mixture  # noqa: E402

pytestmark = [
    pytest.mark.nightly, pytest.mark.vllm, pytest.mark.torch, pytest.mark.slow, pytest.mark.timeout(900),
    pytest.mark.contract(vllm=True),
]  # fmt: skip


def changed(model: Any, seed: int) -> Any:
    """The model with every weight changed."""
    found = copy.deepcopy(model)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return found


async def test_an_update_reaches_every_expert(serve: Any, logprobs_of: Any, tmp_path: Path) -> None:
    """All experts and routers differ from what the server began with, so one that had not arrived would show."""
    model = mixture("qwen3_moe", vocab_size=704, hidden_size=64, head_dim=32, sharpness=20.0)
    model.save_pretrained(tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(QUICKSTART / name, tmp_path / "model")
    with serve(model=str(tmp_path / "model"), extra=("--max-num-seqs", "8")) as server:
        server.wait_ready(lambda line: None, 600)
        config = check(TrainConfig, {
            "model": str(tmp_path / "model"), "steps": 1, "groups_per_step": 1, "rollout": {"group_size": 2},
            "servers": {"urls": [server.config.url], "directory": str(tmp_path / "weights")},
        })  # fmt: skip
        async with bringing(config, tmp_path, model) as (policy, bring):
            for version, current in enumerate((model, changed(model, 1), changed(model, 2))):
                await bring(current, version)
                for seed in range(3):
                    prompt = torch.randint(20, 690, (60,), generator=torch.Generator().manual_seed(seed)).tolist()
                    params = SamplingParams(max_tokens=40, seed=seed)
                    found = await policy.sample(prompt, params, trajectory_id=f"t.{seed}")
                    assert found.version == version
                    assert found.logprobs == pytest.approx(logprobs_of(current, prompt, found.token_ids), abs=1e-4)
            await require_refusal_without_routed_experts(server.config.url)
            await require_only_untrained_tensors_may_be_missing(tmp_path / "model", bring, changed(model, 3))


async def require_refusal_without_routed_experts(url: str) -> None:
    """A server that was not started for it says nothing of experts, and the run ends in words."""
    async with VllmPolicy(VllmClientConfig(urls=(url,), routed_experts=True)) as policy:
        with pytest.raises(RunRefused, match="start vLLM with --enable-return-routed-experts"):
            await policy.sample([20] * 8, SamplingParams(max_tokens=4, seed=1), trajectory_id="t.0")


async def require_only_untrained_tensors_may_be_missing(directory: Path, bring: Any, model: Any) -> None:
    """The server compares an update with the files of its checkpoint, which get tensors that no trainer has."""
    save_file(
        {"mtp.norm.weight": torch.zeros(2), "model.visual.merger.weight": torch.zeros(2)}, directory / "a.safetensors"
    )
    await bring(model, 3)
    save_file({"model.norm.bias": torch.zeros(2)}, directory / "b.safetensors")
    with pytest.raises(PolicyError, match=r"1 tensors are not as in .*, such as model\.norm\.bias: None in place of"):
        await bring(model, 4)


async def test_a_server_on_a_cpu_cannot_return_routed_experts(serve: Any, tmp_path: Path) -> None:
    """Where one can, replay is to be tested on it."""
    mixture("qwen3_moe", vocab_size=704).save_pretrained(tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(QUICKSTART / name, tmp_path / "model")
    extra = ("--enable-return-routed-experts",)
    with serve(model=str(tmp_path / "model"), extra=extra) as server, pytest.raises(UserError) as caught:
        server.wait_ready(lambda line: None, 600)
    log = str(caught.value).rpartition("full log: ")[2].removesuffix(")")
    assert "AuxOutput Connector requires Model Runner V2" in Path(log).read_text()
