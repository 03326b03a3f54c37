"""Shared pieces of the agent's tests: a renderer, a task, and a policy that records what it is asked."""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from swe_aem.agent.renderer import RendererConfig, TurnRenderer
from swe_aem.core import Completion, SamplingParams, SandboxSpec, Task
from swe_aem.policy.tokenizer import Tokenizer, load_tokenizer
from swe_aem.testing.sandbox import FakeSandbox

Reply = Completion | str | list[int] | BaseException | Callable[[Sequence[int]], Any]


class RecordingPolicy:
    """Plays replies: text (tokenised with control tokens, as a model would sample it), ids, a completion, an error to
    raise, or a function that gets the prompt and returns (or awaits) one of these. Keeps every prompt."""

    name = "recording"

    def __init__(self, tokenizer: Tokenizer, replies: Sequence[Reply]) -> None:
        self.tokenizer = tokenizer
        self.replies = list(replies)
        self.prompts: list[list[int]] = []
        self.params: list[SamplingParams] = []

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, trajectory_id: str) -> Completion:
        self.prompts.append(list(prompt_ids))
        self.params.append(params)
        reply = self.replies[min(len(self.prompts), len(self.replies)) - 1]
        if callable(reply):
            reply = reply(prompt_ids)
            if hasattr(reply, "__await__"):
                reply = await reply
        if isinstance(reply, BaseException):
            raise reply
        if isinstance(reply, Completion):
            return reply
        ids = self.tokenizer.encode(reply) if isinstance(reply, str) else reply
        stopped = ids[-1] in params.stop_token_ids
        logprobs = tuple(-0.001 * (n + 1) for n in range(len(ids)))
        return Completion(token_ids=tuple(ids), logprobs=logprobs, finish_reason="stop" if stopped else "length")

    async def close(self) -> None:
        pass


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return load_tokenizer(None)


@pytest.fixture(scope="session", params=[True, False], ids=["thinking", "no-thinking"])
def renderer(request, tokenizer) -> TurnRenderer:
    return TurnRenderer(tokenizer, RendererConfig(enable_thinking=request.param))


@pytest.fixture
def task() -> Task:
    return Task(id="o__r-1", repo="o/r", base_commit="c", problem_statement="It <b>fails</b> {{ here }}.", image="i")


@pytest.fixture
def make_policy(tokenizer) -> Callable[[Sequence[Reply]], RecordingPolicy]:
    return lambda replies: RecordingPolicy(tokenizer, replies)


@pytest.fixture
def make_sandbox() -> Callable[..., FakeSandbox]:
    return lambda *args, **kwargs: FakeSandbox("fake", SandboxSpec(image="i"), *args, **kwargs)


@pytest.fixture
def host_run() -> Callable[[Path], Callable[[FakeSandbox, str], tuple[int, bytes]]]:
    """Handler that runs commands on the host, in a directory. For trusted commands only."""

    def make(directory: Path) -> Callable[[FakeSandbox, str], tuple[int, bytes]]:
        def handle(sandbox: FakeSandbox, command: str) -> tuple[int, bytes]:
            bash = shutil.which("bash") or "/bin/bash"
            done = subprocess.run([bash, "-c", command], cwd=directory, capture_output=True, check=False)
            return done.returncode, done.stdout + done.stderr

        return handle

    return make
