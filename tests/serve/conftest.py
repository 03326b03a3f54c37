"""The quickstart policy as transformers has it, and policies over the shared server."""

import asyncio
import copy
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from swe_aem.core import Policy, SamplingParams
from swe_aem.errors import PolicyError

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart" / "policy"


@pytest.fixture(scope="session")
def model() -> Any:
    """The policy's model, float32."""
    pytest.importorskip("torch", reason="needs the train extra")
    from swe_aem.train.models import load_model

    return load_model(QUICKSTART)


@pytest.fixture(scope="session")
def other(model: Any) -> Callable[[int], Any]:
    """A model with other weights, by a seed."""
    import torch

    def make(seed: int) -> Any:
        changed = copy.deepcopy(model)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in changed.parameters():
                parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
        return changed

    return make


@pytest.fixture(scope="session")
def logprobs_of() -> Callable[..., list[float]]:
    """(model, prompt, response, temperature) to the log-probability of each token of the response."""
    import torch

    def compute(model: Any, prompt: Sequence[int], response: Sequence[int], temperature: float = 1.0) -> list[float]:
        with torch.inference_mode():
            logits = model(torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1]
        return (
            torch.log_softmax(logits.double() / temperature, -1)
            .gather(1, torch.tensor([response]).T)
            .squeeze(1)
            .tolist()
        )

    return compute


@pytest.fixture
async def policy(vllm_url: str) -> AsyncIterator[Any]:
    """A policy over the shared server."""
    from swe_aem.policy.vllm import VllmClientConfig, VllmPolicy

    async with VllmPolicy(VllmClientConfig(urls=(vllm_url,), top_logprobs=20)) as opened:
        yield opened


@pytest.fixture
async def sync(policy: Any, tmp_path: Path) -> AsyncIterator[Any]:
    """New weights for it by files, of which it takes several."""
    from swe_aem.serve.sync import WeightSync
    from swe_aem.serve.transport import FileTransport
    from tests.serve.updating import Updating

    opened = Updating(WeightSync(policy), FileTransport(tmp_path / "weights", piece_bytes=1 << 20))
    await opened.open()
    yield opened
    await opened.close()


class Agents:
    """Sixteen tasks that request long responses one after the other, so that a server has work for the whole test,
    however slow the machine."""

    def __init__(self, policy: Any) -> None:
        self.asked = 0
        self._policy = policy
        self._asking = [asyncio.create_task(self._ask(policy, number)) for number in range(16)]

    async def _ask(self, policy: Policy, number: int) -> None:
        prompt = [20 + number] * 20
        for seed in itertools.count():
            self.asked += 1
            params = SamplingParams(max_tokens=400 + 37 * number, seed=seed)
            await policy.sample(prompt, params, trajectory_id=f"t.{number}")

    async def generating(self, wanted: bool = True) -> None:
        """Return when the server generates, or when it no longer does. A server whose processors are all taken may be
        too slow to say: it is asked again."""
        async with asyncio.timeout(300):
            while await self._generates() != wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def _generates(self) -> bool | None:
        try:
            return bool((await self._policy.servers[0].control.load()).running)
        except PolicyError:
            return None

    def cancel(self) -> None:
        """Give up all that is in flight."""
        for task in self._asking:
            task.cancel()

    async def ended(self) -> list[Any]:
        """What ended each task."""
        return await asyncio.gather(*self._asking, return_exceptions=True)


@pytest.fixture
def agents() -> type[Agents]:
    """`agents(policy)` starts them."""
    return Agents
