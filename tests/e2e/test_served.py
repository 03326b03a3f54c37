"""Rollouts and training with the policy on a real vLLM server: the production protocol, small."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from swe_aem.store import Store  # noqa: E402

pytestmark = [
    pytest.mark.slow, pytest.mark.bubblewrap, pytest.mark.torch, pytest.mark.vllm, pytest.mark.timeout(600),
    pytest.mark.contract(vllm=True),
]  # fmt: skip

POLICY = "configs/quickstart/policy"
SMALL = [
    "steps=5", "oversampled_groups=3", "groups_per_step=2", "num_minibatches=1", "micro_batch_size=4",
    "rollout.group_size=2", "heldout=null", "max_staleness=1",
    "importance_sampling.mode=truncate", "importance_sampling.high=2", "grpo.learning_rate=0.001",
]  # fmt: skip


def assert_logprobs(trajectory: Any, model_of: Any) -> None:
    """Each token's log-probability is that of transformers, with the weights of the version that it bears."""
    for response in trajectory.responses:
        starts = [0, *(span.start for span in response.spans)]
        ends = [*starts[1:], response.end - response.start]
        for version, start, end in zip(response.versions, starts, ends, strict=True):
            first, last = response.start + start, response.start + end
            with torch.inference_mode():
                ids = torch.tensor([trajectory.token_ids[:last]])
                logits = model_of(version)(ids).logits[0, first - 1 : -1]
            exact = logits.double().log_softmax(-1).gather(1, ids[0, first:, None]).squeeze(1).tolist()
            assert exact == pytest.approx(response.logprobs[start:end], abs=1e-4)


def test_micro_by_the_quickstart_policy(vllm_url: str, tmp_path: Path, require_bubblewrap: None) -> None:
    """`swe-aem rollout` against a server, as a user runs it."""
    from swe_aem.train.models import load_model

    asyncio.run(_give(vllm_url, load_model(POLICY).state_dict(), tmp_path / "weights"))
    line = [sys.executable, "-m", "swe_aem", "rollout", "--tasks", "tasks/micro", "--limit", "4", "--out"]
    line += [str(tmp_path / "run"), "--agent", "native", "--policy", vllm_url, "--tokenizer", POLICY]
    settings = ["native.max_turns=3", "native.max_context_tokens=1024", "native.max_response_tokens=96",
                "native.describe_tools=false", "native.prompts=configs/quickstart/prompts", "group_size=2",
                "policy.top_logprobs=20"]  # fmt: skip
    done = subprocess.run(
        [*line, *(f"--set={one}" for one in settings)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    model = load_model(POLICY)
    found = list(Store(tmp_path / "run").trajectories())
    assert len(found) == 8
    assert sum(len(one.responses) for one in found) >= 8
    for one in found:
        assert_logprobs(one, lambda version: model)
        assert {response.entropy_estimator for response in one.responses} == {"top20"}


async def _give(url: str, weights: Any, directory: Path) -> None:
    """Bring the shared server to known weights."""
    from swe_aem.serve.config import ServersConfig
    from swe_aem.serve.connect import connect
    from swe_aem.serve.transport import FileTransport
    from tests.serve.updating import Updating

    async with connect(ServersConfig(urls=(url,))) as (_, sync):
        updating = Updating(sync, FileTransport(directory))
        await updating.open()
        await updating.update(weights, 0)
        await updating.close()


def test_five_steps_with_a_sync_after_each(
    vllm_url: str, tmp_path: Path, require_bubblewrap: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Generation runs a step ahead, so updates meet trajectories in flight; every token is of the version that it
    bears."""
    from safetensors.torch import load_file

    from swe_aem.serve.sync import WeightSync
    from swe_aem.train.config import read_config
    from swe_aem.train.loop import train
    from swe_aem.train.models import load_model
    from swe_aem.train.rollout_worker import RolloutWorker

    given: dict[int, Any] = {}
    end = WeightSync.end

    async def noted(self: WeightSync, failure: str | None) -> None:
        await end(self, failure)
        parcel = self._latest
        assert parcel is not None
        version = parcel.version
        given[version] = load_file(Path(parcel.update_info["path"]) / "model.safetensors")
        for server in self._policy.servers:
            found = await server.control.served_model()
            assert str(found.weights).endswith(f".{version}")
            assert (found, server.client.version) == (server.expected, version)

    monkeypatch.setattr(WeightSync, "end", noted)
    config = read_config(Path("configs/quickstart.yaml"), [*SMALL, f"servers.urls=[{vllm_url}]"])
    summary = train(config, tmp_path, RolloutWorker)  # a thread of this process, which has `noted`
    assert summary is not None
    assert summary.steps == 5
    assert sorted(given) in ([0, 1, 2, 3], [0, 1, 2, 3, 4]), "the last step may be rolled out before its turn comes"
    models: dict[int, Any] = {}

    def model_of(version: int) -> Any:
        if version not in models:
            models[version] = load_model(POLICY)
            models[version].load_state_dict(given[version], strict=False)
        return models[version].eval()

    found = list(Store(tmp_path / "rollouts").trajectories())
    assert len(found) >= 5 * 2 * 2, "what the steps trained on; the queue has begun some more"
    for one in found:
        assert_logprobs(one, model_of)
    versions = {response.version for one in found for response in one.responses}
    assert len(versions) >= 3, "a step's are of the last two, so five steps have three at least"
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert all(0 <= line["staleness"] <= 1 for line in lines)
    assert any(line["staleness"] > 0 for line in lines)
    assert all(line["importance/mean"] > 0 for line in lines)
