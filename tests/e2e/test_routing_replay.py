"""Routing replay in a whole run: a server that routes otherwise than the trainer, the rollouts' process, the store, a
step."""

import asyncio
import copy
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from swe_aem.store import Store  # noqa: E402
from swe_aem.testing.tagging_vllm import routed_experts  # noqa: E402
from swe_aem.testing.vllm import SimulatedVllm  # noqa: E402
from swe_aem.train.config import read_config  # noqa: E402
from swe_aem.train.loop import train  # noqa: E402
from tests.conftest import QUICKSTART  # noqa: E402
from tests.train.mixtures import mixture  # noqa: E402

pytestmark = [
    pytest.mark.nightly, pytest.mark.slow, pytest.mark.bubblewrap, pytest.mark.torch, pytest.mark.timeout(600)
]  # fmt: skip

SMALL = [
    "steps=1", "oversampled_groups=2", "groups_per_step=2", "num_minibatches=1", "micro_batch_size=2", "device=cpu",
    "rollout.group_size=2", "rollout.native.max_consecutive_malformed=2", "heldout=null",
]  # fmt: skip
TOKENS = 12
WORDS = 690
"""Token ids below this are of the tokenizer."""


class RoutingVllm(SimulatedVllm):
    """A server with a mixture whose kernels round otherwise: each token that it samples comes from the third best
    expert in place of the second. It answers as vLLM does with --enable-return-routed-experts."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._model = copy.deepcopy(model).eval()
        self._sampled: list[tuple[list[int], int]] = []
        """Ids of each prompt and response, and where the response begins."""
        self._otherwise = torch.zeros(0, dtype=torch.bool)
        self._went: list[Any] = []
        for name, router in self._model.named_modules():
            if name.endswith(".mlp.gate"):
                router.register_forward_hook(self._choose)

    def _choose(self, router: Any, args: Any, output: Any) -> Any:
        logits, _, chosen = output
        chosen = torch.where(self._otherwise[:, None], logits.topk(3).indices[:, [0, 2]], chosen)
        self._went.append(chosen)
        weights = logits.softmax(-1, dtype=torch.float).gather(1, chosen)
        if router.norm_topk_prob:
            weights = weights / weights.sum(-1, keepdim=True)
        return logits, weights.to(logits.dtype), chosen

    async def _complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        prompt = list(body["prompt"])
        ids, logprobs = list(prompt), []
        generator = torch.Generator().manual_seed(body["seed"] % (1 << 62))
        for _ in range(min(TOKENS, body["max_tokens"])):
            logprob = self._logprobs(ids, len(prompt))
            token = int(torch.multinomial(logprob[:WORDS].exp(), 1, generator=generator))
            ids.append(token)
            logprobs.append(float(logprob[token]))
        went = torch.stack(self._went, dim=1)[body.get("routed_experts_prompt_start", 0) :]
        self._sampled.append((ids, len(prompt)))
        said = {"token_logprobs": logprobs, "tokens": [""] * len(logprobs)}
        choice = {"token_ids": ids[len(prompt) :], "logprobs": said, "finish_reason": "length"}
        return 200, {"choices": [{**choice, "routed_experts": routed_experts(went.tolist())}]}

    def _logprobs(self, ids: list[int], prompt: int) -> Any:
        """Those of the next token. What sampled earlier responses of the conversation is in its cache."""
        self._otherwise = torch.zeros(len(ids), dtype=torch.bool)
        self._otherwise[prompt - 1 :] = True
        for earlier, start in self._sampled:
            if ids[: len(earlier)] == earlier:
                self._otherwise[start - 1 : len(earlier) - 1] = True
        self._went.clear()
        with torch.inference_mode():
            return self._model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)


@contextmanager
def serving(server: SimulatedVllm) -> Iterator[str]:
    """The URL of the server, which has a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
        yield server.url
        asyncio.run_coroutine_threadsafe(server.__aexit__(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.mark.parametrize("replay", [True, False])
def test_the_trainer_agrees_with_a_server_that_routes_otherwise(
    replay: bool, tmp_path: Path, require_bubblewrap: None
) -> None:
    model = mixture("qwen3_moe", vocab_size=704, max_position_embeddings=2048, sharpness=20.0)
    model.save_pretrained(tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(QUICKSTART / name, tmp_path / "model")
    with serving(RoutingVllm(model)) as url:
        changes = [f"model={tmp_path / 'model'}", f"servers.urls=[{url}]", f"routing_replay={str(replay).lower()}"]
        config = read_config(Path("configs/quickstart.yaml"), [*SMALL, *changes])
        assert train(config, tmp_path / "run") is not None
    (line,) = [json.loads(one) for one in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    found = [response for one in Store(tmp_path / "run" / "rollouts").trajectories() for response in one.responses]
    assert len(found) > 4, "of some trajectories a second turn too"
    assert all((response.routed_experts is not None) == replay for response in found)
    assert (line["importance/abs_log_ratio"] < 1e-4) == replay
