"""A sampled policy end to end: the ids and log-probabilities of whole trajectories are what the model says of them."""

import asyncio

import pytest

from swe_aem.agent import NativeAgent, NativeConfig
from swe_aem.core import Deadline, Stop

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.contract(transformers=True)]

torch = pytest.importorskip("torch", reason="needs the transformers extra")
pytest.importorskip("transformers", reason="needs the transformers extra")


@pytest.fixture(scope="module")
def model(tokenizer):
    from swe_aem.testing.steps import tiny_model

    return tiny_model(seed=1, vocab_size=len(tokenizer), max_position_embeddings=8192).eval()


async def test_logprobs_of_whole_trajectories(model, renderer, task, make_sandbox):
    """One forward pass over a stored trajectory gives the log-probabilities that were stored with it."""
    from swe_aem.policy.transformers import TransformersPolicy

    policy = TransformersPolicy(model, name="tiny")
    agent = NativeAgent(NativeConfig(max_response_tokens=60, max_turns=3, temperature=0.8), renderer)
    trajectories = await asyncio.gather(
        *(agent.run(task, make_sandbox(), policy, sample=n, deadline=Deadline.after(120)) for n in range(4))
    )
    await policy.close()
    assert len({trajectory.token_ids for trajectory in trajectories}) == 4, "the samples of a group differ"
    for trajectory in trajectories:
        assert trajectory.stop is Stop.MALFORMED, "a random model calls no tool"
        ids = torch.tensor([trajectory.token_ids])
        with torch.inference_mode():
            logprobs = torch.log_softmax(model(ids).logits[0, :-1] / 0.8, -1)
        chosen = logprobs.gather(1, ids[0, 1:, None])[:, 0].tolist()
        for response in trajectory.responses:
            assert chosen[response.start - 1 : response.end - 1] == pytest.approx(response.logprobs, abs=1e-4)
