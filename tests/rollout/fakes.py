"""Fakes of the components of a rollout, and trajectories to store."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swe_aem.core import (
    AnyPolicy,
    ChatCompletion,
    Completion,
    Deadline,
    Response,
    SamplingParams,
    Sandbox,
    SandboxBackend,
    SandboxSpec,
    Stop,
    Task,
    TaskRecord,
    TestStatus,
    Trajectory,
    Tree,
    Usage,
    Verdict,
    is_chat,
)
from swe_aem.grading import CapturedWork, Delta, GivenTree, StartLayers
from swe_aem.grading.capture import WorkFile
from swe_aem.grading.delta import FILE
from swe_aem.policy import PolicyFactory
from swe_aem.rollout import RolloutComponents, RolloutConfig, SchedulingConfig
from swe_aem.rollout.group import group_of
from swe_aem.rollout.local_roller import LocalRoller
from swe_aem.rollout.orchestrator import Orchestrator
from swe_aem.rollout.progress import RunProgress
from swe_aem.rollout.roller import Roller
from swe_aem.rollout.spending import Spending
from swe_aem.store import FailureLog, Store, Totals
from swe_aem.testing.builders import make_trajectory
from swe_aem.testing.sandbox import FakeBackend


class FakePolicy:
    """Policy that is never called, because the fake agent does not sample."""

    name = "fake-model"

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, trajectory_id: str) -> Completion:
        raise AssertionError("the fake agent does not sample")

    async def close(self) -> None:
        pass


Behaviour = Callable[["FakeAgent", Task, Sandbox, int], Awaitable[Stop]]


async def submit(agent: "FakeAgent", task: Task, sandbox: Sandbox, sample: int) -> Stop:
    """Run one command and submit."""
    await asyncio.sleep(agent.work_s)
    await sandbox.run("work", timeout_s=1)
    return Stop.SUBMITTED


@dataclass
class FakeAgent:
    """Agent that does what its behaviour says; counts how many run at once."""

    behaviour: Behaviour = submit
    work_s: float = 0.0
    name: str = "fake"
    runs: list[tuple[str, int]] = field(default_factory=list)
    running: int = 0
    most: int = 0

    async def run(
        self, task: Task, sandbox: Sandbox, policy: AnyPolicy, *, sample: int, deadline: Deadline
    ) -> Trajectory:
        self.runs.append((task.id, sample))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            stop = await self.behaviour(self, task, sandbox, sample)
        finally:
            self.running -= 1
        drafted = make_trajectory(task.id, sample, stop=stop, patch="", outcome=None, reward=None, verdict=None)
        return drafted.model_copy(update={"timings_s": {}, "model": policy.name})


@dataclass
class FakeChat:
    """Chat policy whose every answer takes 90 tokens of prompt and 10 of response, and costs a cent."""

    name: str = "fake-chat"
    cost_usd: float | None = 0.01
    asked: list[str] = field(default_factory=list)
    """Trajectories, one for each request."""
    fails: Callable[["FakeChat"], Exception | None] = lambda chat: None
    """What a request raises, once it is among those asked."""

    async def chat(
        self, messages: Sequence[Any], tools: Sequence[Any], params: SamplingParams, *, trajectory_id: str
    ) -> ChatCompletion:
        self.asked.append(trajectory_id)
        await asyncio.sleep(0)
        if (error := self.fails(self)) is not None:
            raise error
        usage = Usage(prompt_tokens=90, completion_tokens=10, cost_usd=self.cost_usd)
        return ChatCompletion(message={"role": "assistant", "content": ""}, finish_reason="stop", usage=usage)

    async def close(self) -> None:
        pass


@dataclass
class AskingAgent(FakeAgent):
    """Agent that asks a chat policy so many times, by task and sample, and then submits."""

    turns: Callable[[str, int], int] = lambda task_id, sample: 5

    async def run(
        self, task: Task, sandbox: Sandbox, policy: AnyPolicy, *, sample: int, deadline: Deadline
    ) -> Trajectory:
        assert is_chat(policy)
        responses = []
        for _ in range(self.turns(task.id, sample)):
            given = await policy.chat([], [], SamplingParams(max_tokens=10), trajectory_id=f"{task.id}.{sample}")
            responses.append(Response.of_chat(given, sample_s=0.1, tool_calls=()))
        drafted = await super().run(task, sandbox, policy, sample=sample, deadline=deadline)
        return drafted.model_copy(update={"responses": tuple(responses), "token_ids": ()})


GRADED = Verdict(resolved=True, patch_applied=True, fail_to_pass={"t::a": TestStatus.PASSED})
Grading = Callable[["FakeGrader", TaskRecord, Delta | str, Sandbox], Awaitable[Verdict]]


async def resolve(grader: "FakeGrader", record: TaskRecord, patch: Delta | str, sandbox: Sandbox) -> Verdict:
    """Everything passes."""
    await asyncio.sleep(grader.work_s)
    await sandbox.run("grade", timeout_s=1)
    return GRADED


async def all_names_are_fine(grader: "FakeGrader") -> None:
    """No new name is refused."""


@dataclass
class FakeGrader:
    """Opens a sandbox per slot in the background, as the real one does; counts how many grade at once."""

    grading: Grading = resolve
    work_s: float = 0.0
    comparing: Callable[[int], None] = lambda times: None
    """Called with how often some work has been compared by now."""
    judging: Callable[["FakeGrader"], Awaitable[None]] = all_names_are_fine
    compared: int = 0
    graded: list[str] = field(default_factory=list)
    running: int = 0
    most: int = 0

    @asynccontextmanager
    async def __call__(self, backend: SandboxBackend) -> AsyncIterator["FakeGrader"]:
        self.backend = backend
        async with StartLayers(backend) as self.layers:
            yield self

    async def gold_patch(self, record: TaskRecord, spec: SandboxSpec, deadline: Deadline) -> str:
        return record.key.gold_patch

    @asynccontextmanager
    async def slot(self, record: TaskRecord, spec: SandboxSpec, *, max_log_bytes: int = 0) -> AsyncIterator["FakeSlot"]:
        ready: asyncio.Future[Sandbox] = asyncio.get_running_loop().create_future()
        done = asyncio.Event()

        async def hold() -> None:
            try:
                async with self.backend.open(spec) as sandbox:
                    ready.set_result(sandbox)
                    await done.wait()
            except Exception as error:
                if ready.done():
                    raise
                ready.set_exception(error)

        holder = asyncio.create_task(hold())
        try:
            yield FakeSlot(self, record, ready)
        finally:
            done.set()
            if not ready.done():
                holder.cancel()
            await asyncio.wait({holder})
            if ready.done() and not ready.cancelled():
                ready.exception()


@dataclass
class FakeSlot:
    grader: FakeGrader
    record: TaskRecord
    ready: asyncio.Future[Sandbox]
    kept_log: bytes = b""

    async def sandbox(self) -> Sandbox:
        return await asyncio.shield(self.ready)

    async def grade_untouched(self, deadline: Deadline) -> Verdict:
        return await self.grade("", deadline)

    async def delta(self, work: CapturedWork) -> Delta:
        await self.sandbox()
        self.grader.compared += 1
        self.grader.comparing(self.grader.compared)
        return Delta(patch="diff --git a/x b/x\n") if work.files else Delta()

    async def apply(self, patch: str, deadline: Deadline) -> Delta:
        return Delta(patch=patch)

    async def judge_names(self, delta: Delta) -> None:
        await self.grader.judging(self.grader)

    async def grade(self, patch: Delta | str, deadline: Deadline, *, twins: bool = True) -> Verdict:
        sandbox = await self.sandbox()
        self.grader.graded.append(self.record.task.id)
        self.grader.running += 1
        self.grader.most = max(self.grader.most, self.grader.running)
        try:
            return await self.grader.grading(self.grader, self.record, patch, sandbox)
        finally:
            self.grader.running -= 1


async def prepare(sandbox: Sandbox, record: TaskRecord) -> GivenTree:
    await sandbox.run("prepare", timeout_s=1)
    return GivenTree(Tree.made_of({}), tracked=frozenset(), ignore_rules={})


async def capture(sandbox: Sandbox, workdir: str, given: GivenTree) -> CapturedWork:
    await sandbox.run("capture", timeout_s=1)
    return CapturedWork(given={}, files=(WorkFile("x", FILE, b"", b""),))


async def capture_nothing(sandbox: Sandbox, workdir: str, given: GivenTree) -> CapturedWork:
    return CapturedWork(given={})


@dataclass
class Bench:
    """One rollout over fakes; every part may be replaced before `run`."""

    directory: Path
    records: list[TaskRecord]
    agent: FakeAgent = field(default_factory=FakeAgent)
    grader: FakeGrader = field(default_factory=FakeGrader)
    backend: FakeBackend = field(default_factory=FakeBackend)
    most_tokens: int = 1_000_000
    """What the limits allow a trajectory to use."""
    prepare: Callable[[Sandbox, TaskRecord], Awaitable[GivenTree]] = prepare
    capture: Callable[[Sandbox, str, GivenTree], Awaitable[CapturedWork]] = capture
    policies: PolicyFactory = lambda record, sample: FakePolicy()
    scheduling: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def config(self) -> RolloutConfig:
        few = {"concurrency": 4, "starting": 4, "grading": 2}
        quick = {"backoff_s": 0.0, "guard_s": 0.5, **few, **self.scheduling}
        return RolloutConfig(scheduling=SchedulingConfig(**quick), **{"time_limit_s": 5.0, **self.settings})

    def components(self) -> RolloutComponents:
        return RolloutComponents(
            agent=self.agent,
            policies=self.policies,
            grader=self.grader,
            prepare=self.prepare,
            capture=self.capture,
            workspace=lambda task_id: None,
        )

    @asynccontextmanager
    async def orchestrator(
        self, elsewhere: Callable[[LocalRoller], Roller] = lambda roller: roller, **more: Any
    ) -> AsyncIterator[Orchestrator]:
        config = self.config()
        store = Store(self.directory)
        with store.writer() as writer:
            spending = Spending(config.budget, most_tokens=self.most_tokens)
            failures = FailureLog(self.directory)
            self.progress = RunProgress(
                Totals(), wanted=0, group_size=config.group_size, spending=spending, failures=failures
            )
            groups = [group_of(config, record, writer.rows) for record in self.records]
            roller = LocalRoller(config, self.components(), self.backend, self.directory, run="run")
            yield Orchestrator(config, groups, elsewhere(roller), writer, self.progress, **more)
            failures.close()

    async def run(self) -> dict[tuple[str, int], Trajectory]:
        """Roll out, and return what the store holds then."""
        async with self.orchestrator() as orchestrator:
            await orchestrator.run()
        return self.stored()

    def stored(self) -> dict[tuple[str, int], Trajectory]:
        found = list(Store(self.directory).trajectories())
        assert len({(one.task_id, one.sample) for one in found}) == len(found)
        return {(one.task_id, one.sample): one for one in found}
