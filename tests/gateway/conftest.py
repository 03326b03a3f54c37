"""A session over a policy that plays replies, with the shipped small tokenizer and the built-in one."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from swe_aem.agent import RendererConfig, TurnLimits, TurnRenderer
from swe_aem.core import Completion, Deadline, SamplingParams, Task, VersionSpan
from swe_aem.gateway import GatewaySession
from swe_aem.policy.tokenizer import load_tokenizer

SMALL = str(Path(__file__).parents[2] / "configs" / "quickstart" / "policy")
TASK = Task(id="o__r-1", repo="o/r", base_commit="c", problem_statement="It fails.", image="i")
LIMITS = TurnLimits(max_context_tokens=1 << 40)
RENDERERS = {
    (tokenizer, thinking): TurnRenderer(load_tokenizer(path), RendererConfig(enable_thinking=thinking))
    for tokenizer, path in (("bytes", None), ("small", SMALL))
    for thinking in (True, False)
}

AS_TEMPLATE = {
    tokenizer: TurnRenderer(load_tokenizer(path), RendererConfig(enable_thinking=True, thinking="as_template"))
    for tokenizer, path in (("bytes", None), ("small", SMALL))
}
"""Renderers that leave thinking out where the chat template does."""


class Played:
    """Plays replies (text with control tokens, an error, or a function that returns a completion) and keeps what it was
    asked."""

    name = "played"

    def __init__(self, renderer: TurnRenderer, replies: Sequence[Any]) -> None:
        self.renderer = renderer
        self.replies = list(replies)
        self.prompts: list[list[int]] = []
        self.params: list[SamplingParams] = []
        self.sampled: list[list[int]] = []

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, trajectory_id: str) -> Completion:
        reply = self.replies[min(len(self.prompts), len(self.replies) - 1)]
        self.prompts.append(list(prompt_ids))
        self.params.append(params)
        if isinstance(reply, BaseException):
            raise reply
        if callable(reply):
            reply = await reply()
        ids = self.renderer.tokenizer.encode(reply)[: params.max_tokens]
        self.sampled.append(ids)
        logprobs = tuple(-0.001 * (n + 1) for n in range(len(ids)))
        stopped = ids[-1] in params.stop_token_ids
        return Completion(
            token_ids=tuple(ids),
            logprobs=logprobs,
            finish_reason="stop" if stopped else "length",
            version=1,
            spans=(VersionSpan(start=len(ids) - 1, version=2),) if len(ids) > 1 else (),
            entropies=(0.25,) * len(ids),
            entropy_estimator="top20",
        )

    async def close(self) -> None:
        pass


@pytest.fixture(params=sorted(RENDERERS), ids=lambda key: f"{key[0]}-{'thinking' if key[1] else 'plain'}")
def renderer(request: pytest.FixtureRequest) -> TurnRenderer:
    return RENDERERS[request.param]


@pytest.fixture
def play(renderer: TurnRenderer) -> Callable[..., tuple[GatewaySession, Played]]:
    """`play(replies, limits=..., deadline_s=...)`: a session whose policy plays them, and that policy. Its time runs
    from the first prompt on, so that a busy machine does not use it up before."""

    def make(replies: Sequence[Any], *, deadline_s: float = 60.0, **limits: Any) -> tuple[GatewaySession, Played]:
        policy = Played(renderer, replies)
        chosen = LIMITS.model_copy(update=limits)
        begun_s = time.monotonic()
        deadline = Deadline(begun_s + deadline_s, lambda: time.monotonic() if policy.prompts else begun_s)
        return GatewaySession(TASK, 0, policy, renderer, chosen, deadline), policy

    return make
