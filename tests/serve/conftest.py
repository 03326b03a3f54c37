"""The quickstart policy as transformers has it, and policies over the shared server."""

import copy
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

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
    from swe_aem.policy.vllm import VllmConfig, VllmPolicy

    async with VllmPolicy(VllmConfig(urls=(vllm_url,))) as opened:
        yield opened


@pytest.fixture
async def sync(policy: Any, tmp_path: Path) -> Any:
    """New weights for it by file."""
    from swe_aem.serve.sync import WeightSync
    from swe_aem.serve.transport import FileTransport

    opened = WeightSync(policy, FileTransport(tmp_path / "weights"))
    await opened.open()
    return opened
