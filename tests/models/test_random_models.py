"""A tiny random model of each family's architecture, rolled out by the native agent in this process, and in vLLM."""

from pathlib import Path
from typing import Any

import pytest

from swe_aem.agent import NativeAgent, NativeConfig, RendererConfig, TurnRenderer
from swe_aem.agent.families.builtin import FAMILIES
from swe_aem.core import Deadline, SandboxSpec, Task
from swe_aem.policy import load_tokenizer
from swe_aem.testing.sandbox import FakeSandbox
from swe_aem.testing.tokenizers import stand_in_tokenizer, write_stand_in
from tests.models.architectures import ARCHITECTURES, random_model

pytestmark = [pytest.mark.torch, pytest.mark.contract(transformers=True)]

torch = pytest.importorskip("torch", reason="needs the transformers extra")
pytest.importorskip("transformers", reason="needs the transformers extra")

TASK = Task(id="o__r-1", repo="o/r", base_commit="c", problem_statement="It fails.", image="i")
IN_CI = {
    "qwen3-coder": "experts",
    "qwen3.5": "linear attention",
    "gpt-oss": "sliding windows",
    "kimi-k2": "compressed keys",
}
"""One family of each kind of architecture; the others run at night."""
CUT_OFF_ENDS = ("gpt-oss",)
"""Families in which nothing can follow a response that was cut off, as those of a random model are."""
SERVED = ("qwen3-coder",)
"""Families of which a random model is also served by the CPU build of vLLM."""


def families() -> list[Any]:
    return [pytest.param(family, marks=[] if family in IN_CI else [pytest.mark.nightly]) for family in FAMILIES]


def test_each_family_has_an_architecture() -> None:
    assert set(ARCHITECTURES) == set(FAMILIES)


async def rolled_out(policy: Any, renderer: TurnRenderer) -> Any:
    """A trajectory of four responses, whatever they say."""
    limits = {"max_turns": 4, "max_response_tokens": 12, "max_consecutive_malformed": 9, "describe_tools": False}
    agent = NativeAgent(NativeConfig.model_validate(limits), renderer)
    sandbox = FakeSandbox("fake", SandboxSpec(image="i"))
    return await agent.run(TASK, sandbox, policy, sample=0, deadline=Deadline.after(250))


def size_of(tokenizer: Any) -> int:
    """Token ids that a model for this tokenizer has at least."""
    return max(len(tokenizer), *(token + 1 for token in tokenizer.control_token_ids))


def logprobs_of(trajectory: Any) -> list[float]:
    """Log-probabilities of all sampled tokens, as the policy gave them."""
    return [logprob for response in trajectory.responses for logprob in response.logprobs]


def recomputed(model: Any, trajectory: Any) -> list[float]:
    """Log-probabilities of all sampled tokens from one pass over the whole trajectory, without any cache."""
    ids = trajectory.token_ids
    with torch.inference_mode():
        logprobs = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1)
    return [float(logprobs[n - 1, ids[n]]) for one in trajectory.responses for n in range(one.start, one.end)]


@pytest.mark.parametrize("family", families())
async def test_a_random_model_is_rolled_out_token_for_token(family: str) -> None:
    """The log-probabilities are those of one pass over the trajectory: no token was lost, added or changed."""
    from swe_aem.policy.transformers import TransformersPolicy

    tokenizer = stand_in_tokenizer(family)
    renderer = TurnRenderer(tokenizer, RendererConfig(family=family))
    model = random_model(family, size_of(tokenizer))
    policy = TransformersPolicy(model, name=family)
    try:
        trajectory = await rolled_out(policy, renderer)
    finally:
        await policy.close()
    assert len(trajectory.responses) > (family not in CUT_OFF_ENDS)
    assert logprobs_of(trajectory) == pytest.approx(recomputed(model, trajectory), abs=2e-3)


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.contract(vllm=True)
@pytest.mark.parametrize("family", SERVED)
async def test_a_random_model_is_served_token_for_token(family: str, serve: Any, tmp_path: Path) -> None:
    from swe_aem.policy.vllm import VllmClientConfig, VllmPolicy

    directory = write_stand_in(family, tmp_path / "model")
    tokenizer = load_tokenizer(str(directory))
    renderer = TurnRenderer(tokenizer, RendererConfig(family=family))
    model = random_model(family, size_of(tokenizer))
    model.save_pretrained(directory)
    (directory / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}', encoding="utf-8")
    with serve(model=str(directory), sync="none", extra=("--max-num-seqs", "4")) as server:
        server.wait_ready(lambda line: None, 600)
        async with VllmPolicy(VllmClientConfig(urls=(server.config.url,))) as policy:
            trajectory = await rolled_out(policy, renderer)
    assert len(trajectory.responses) > (family not in CUT_OFF_ENDS)
    assert logprobs_of(trajectory) == pytest.approx(recomputed(model, trajectory), abs=2e-3)
