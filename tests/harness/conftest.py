"""The harness of docs/bring-your-own-agent.md, in an environment of its own, and agents over it."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from swe_aem.agent import RendererConfig, TurnLimits, TurnRenderer
from swe_aem.core import Completion, Deadline, SamplingParams, SandboxSpec, Task, Trajectory
from swe_aem.harness.agent import HarnessAgent, open_harness
from swe_aem.harness.config import HarnessConfig
from swe_aem.harness.environment import install
from swe_aem.harness.pool import WorkerPool
from swe_aem.harness.spec import HarnessSpec, read_harness_spec
from swe_aem.policy.tokenizer import load_tokenizer
from swe_aem.testing.sandbox import FakeSandbox, Handler, succeed
from tests.conftest import absent
from tests.walk import walk

RENDERER = TurnRenderer(load_tokenizer(None), RendererConfig())
LIMITS = TurnLimits(max_context_tokens=1 << 30)
TASK = Task(id="o__r-1", repo="o/r", base_commit="c", problem_statement="It fails.", image="i", workdir="/repo")


def called(tool: str, **arguments: Any) -> list[int]:
    """The ids of a response that calls a tool."""
    function = {"name": tool, "arguments": arguments}
    return RENDERER.render_assistant({"content": "", "tool_calls": [{"type": "function", "function": function}]})


RUN, DONE = called("run", command="ls"), called("done")


class Played:
    """Plays ids, or what a function returns; the last reply repeats. Keeps the prompts."""

    name = "played"

    def __init__(self, replies: Sequence[Any]) -> None:
        self.replies = list(replies)
        self.prompts: list[list[int]] = []

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, trajectory_id: str) -> Completion:
        self.prompts.append(list(prompt_ids))
        reply = self.replies[min(len(self.prompts), len(self.replies)) - 1]
        if isinstance(reply, BaseException):
            raise reply
        ids = await reply() if callable(reply) else reply
        return Completion(token_ids=tuple(ids), logprobs=(-0.5,) * len(ids), finish_reason="stop")

    async def close(self) -> None:
        pass


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("uv") is None:
        absent("uv is not installed")
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def make_spec(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., HarnessSpec]:
    """`make_spec(old, new)`: the walk's harness, with a piece of it replaced, installed."""
    monkeypatch.setenv("SWE_AEM_CACHE", str(cache))

    def make(old: str = "", new: str = "") -> HarnessSpec:
        file = tmp_path / "my_agent.py"
        file.write_text(walk().harness.replace(old, new) if old else walk().harness)
        read_harness_spec.cache_clear()
        spec = read_harness_spec(str(file))
        install(spec)
        return spec

    return make


class Stage:
    """A harness that is open, and sandboxes for it."""

    def __init__(self, agent: HarnessAgent, pool: WorkerPool) -> None:
        self.agent, self.pool = agent, pool

    async def play(
        self,
        replies: Sequence[Any],
        *,
        handler: Handler = succeed,
        sandbox: Any = None,
        deadline: Deadline | None = None,
    ) -> Trajectory:
        sandbox, deadline = (
            sandbox or FakeSandbox("fake", SandboxSpec(image="i"), handler),
            deadline or Deadline.after(60),
        )
        return await self.agent.run(TASK, sandbox, Played(replies), sample=0, deadline=deadline)


@pytest.fixture
def staged(make_spec: Callable[..., HarnessSpec]) -> Callable[..., Any]:
    """`async with staged(...) as stage`: the walk's harness, changed and configured."""

    @asynccontextmanager
    async def stage(old: str = "", new: str = "", limits: TurnLimits = LIMITS, **config: Any) -> AsyncIterator[Stage]:
        spec = await asyncio.to_thread(make_spec, old, new)
        async with open_harness(spec, HarnessConfig(**config), RENDERER) as agents:
            agent = agents(limits)
            yield Stage(agent, agent.pool)

    return stage
