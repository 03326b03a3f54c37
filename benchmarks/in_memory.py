"""Rollouts whose sandboxes are in memory and whose grader is instant, so that nothing but the machinery takes time."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from swe_aem.agent import NativeAgent, TurnRenderer
from swe_aem.core import (
    AnswerKey,
    Completion,
    Deadline,
    SamplingParams,
    Sandbox,
    SandboxBackend,
    SandboxSpec,
    Task,
    TaskRecord,
    TestStatus,
    Tree,
    Verdict,
)
from swe_aem.fleet.host_roller import open_host_roller
from swe_aem.fleet.host_work import HostWork
from swe_aem.fleet.messages import HostSize, Job, Opening
from swe_aem.fleet.outbox import Outbox
from swe_aem.grading import CapturedWork, Delta, GivenTree, Grader, GradeSlot, NotApplied
from swe_aem.policy import PolicyFactory, VllmClientConfig, VllmPolicy, load_tokenizer
from swe_aem.rollout import RolloutComponents, RolloutConfig
from swe_aem.rollout.breaker import Breaker, FirstAnswer
from swe_aem.rollout.local_roller import LocalRoller
from swe_aem.rollout.progress import RunProgress
from swe_aem.rollout.roller import Done, Place, RunState, StartingGroup
from swe_aem.rollout.run import OpenComponents
from swe_aem.sandbox import open_backend
from swe_aem.sandbox.host_system import HOST_IMAGE
from swe_aem.store import Totals
from swe_aem.tasks import TaskSet
from swe_aem.testing.sandbox import FakeBackend, FakeSandbox

OBSERVED = b"y" * 325
"""What each command prints: as many tokens of the byte tokenizer."""
BURNT_S = 0.005
"""Processor time of a response of `Burning`: about what a long one takes to be read and checked."""


class InstantSlot(GradeSlot):
    """Whatever is done is right."""

    def __init__(self, spec: SandboxSpec) -> None:
        self.kept_log = b""
        self._spec = spec

    async def sandbox(self) -> Sandbox:
        """One in memory."""
        return FakeSandbox("grading", self._spec)

    async def judge_names(self, delta: Delta) -> None:
        """No new name is refused."""

    async def delta(self, work: CapturedWork) -> Delta:
        """Some patch."""
        return Delta(patch="diff --git a/x b/x\n")

    async def grade(self, patch: Delta | NotApplied | str, deadline: Deadline, *, twins: bool = True) -> Verdict:
        """Resolved, at once. With statuses, as any evaluation that ran: without them a control would be measured."""
        passed = {"a": TestStatus.PASSED}
        return Verdict(
            resolved=True, patch_applied=True, fail_to_pass=passed, fail_to_pass_fraction=1, pass_to_pass_fraction=1
        )


class InstantGrader(Grader):
    """Grades at once, without a sandbox."""

    @asynccontextmanager
    async def slot(self, record: TaskRecord, spec: SandboxSpec, *, max_log_bytes: int = 0) -> AsyncIterator[GradeSlot]:
        """A slot for one patch."""
        yield InstantSlot(spec)


class Burning:
    """A policy in this process, whose responses take processor time."""

    name = "burning"

    def __init__(self, response: Sequence[int]) -> None:
        self._response = tuple(response)

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, trajectory_id: str) -> Completion:
        """The same response each time."""
        end_s = time.thread_time() + BURNT_S
        while time.thread_time() < end_s:
            pass
        logprobs = (-0.5,) * len(self._response)
        return Completion(token_ids=self._response, logprobs=logprobs, finish_reason="stop", version=0)

    async def close(self) -> None:
        """Nothing is open."""


@asynccontextmanager
async def served(config: RolloutConfig, tasks: TaskSet) -> AsyncIterator[RolloutComponents]:
    """Components whose policy is the server that the configuration names, with a slot for each place."""
    async with VllmPolicy(VllmClientConfig(urls=(str(config.policy),))) as policy:
        policy.servers[0].slots.resize(config.at_once.concurrency)
        yield _components(config, lambda record, sample: policy)


@asynccontextmanager
async def burning(config: RolloutConfig, tasks: TaskSet) -> AsyncIterator[RolloutComponents]:
    """Components whose policy is `Burning`."""
    policy = Burning(command_response(200))
    yield _components(config, lambda record, sample: policy)


def backend(config: RolloutConfig) -> SandboxBackend:
    """Sandboxes in memory."""
    return FakeBackend(lambda sandbox, command: (0, OBSERVED))


def open_served(opening: Opening, outbox: Outbox) -> AbstractAsyncContextManager[HostWork]:
    """Trajectories with the components of `served`, as work on a host."""
    return open_host_roller(opening, outbox, open_components=served, backend=backend)


def open_burning(opening: Opening, outbox: Outbox) -> AbstractAsyncContextManager[HostWork]:
    """Trajectories with the components of `burning`, as work on a host."""
    return open_host_roller(opening, outbox, open_components=burning, backend=backend)


@asynccontextmanager
async def open_calls(opening: Opening, outbox: Outbox) -> AsyncIterator[HostWork]:
    """Tool calls as work on a host: a job's payload is how many."""

    async def do(job: Job, place: Place) -> list[float]:
        return await tool_calls(job.payload)

    yield HostWork(HostSize.of_this_host(1), do)


def command_response(tokens: int) -> list[int]:
    """A response of the byte tokenizer that calls a tool, with so many tokens."""
    call = '<tool_call>\n{"name": "bash", "arguments": {"command": "ls"}}\n</tool_call><|im_end|>'
    ids = load_tokenizer(None).encode(call)
    return [ord(".")] * (tokens - len(ids)) + ids


def make_record(number: int) -> TaskRecord:
    """A task whose statement has its number."""
    statement = f"This is trajectory number {number}. Fix the bug."
    task = Task(id=f"t-{number}", repo="o/r", base_commit="b" * 40, problem_statement=statement, image="fake")
    key = AnswerKey(
        task_id=task.id, repo="o/r", version="1", gold_patch="g", test_patch="t", eval_script="true",
        log_parser="parse_log_pytest", eval_type="pass_and_fail", fail_to_pass=("a",), pass_to_pass=("b",),
        timeout_s=60,
    )  # fmt: skip
    return TaskRecord(task=task, key=key)


def _components(config: RolloutConfig, policies: PolicyFactory) -> RolloutComponents:
    return RolloutComponents(
        agent=NativeAgent(config.native, TurnRenderer(load_tokenizer(None))),
        policies=policies,
        grader=_grader,
        prepare=_prepare,
        capture=_capture,
        workspace=lambda task_id: None,
    )


@asynccontextmanager
async def _grader(backend: SandboxBackend) -> AsyncIterator[Grader]:
    yield InstantGrader(backend)


async def _prepare(sandbox: Sandbox, record: TaskRecord) -> GivenTree:
    return GivenTree(Tree.made_of({}), tracked=frozenset(), ignore_rules={})


async def _capture(sandbox: Sandbox, workdir: str, given: GivenTree) -> CapturedWork:
    return CapturedWork(given={}, removed=("x",))


class Here:
    """A roller in this process with the same parts as an agent's."""

    def __init__(
        self, config: RolloutConfig, tasks: TaskSet, directory: Path, run: str, components: OpenComponents
    ) -> None:
        self._config, self._tasks, self._directory, self._run, self._components = (
            config, tasks, directory, run, components
        )  # fmt: skip

    @asynccontextmanager
    async def open(self, run: RunState) -> AsyncIterator[None]:
        """What rolling out needs."""
        async with self._components(self._config, self._tasks) as components:
            sandboxes = backend(self._config)
            self._roller = LocalRoller(self._config, components, sandboxes, self._directory, run=self._run)
            async with self._roller.open(run):
                yield

    async def admit(self, record: TaskRecord, count: int) -> None:
        """Groups are started one after the other."""

    async def place(self, record: TaskRecord, group: StartingGroup | None = None) -> Place:
        """Wait for a place."""
        return await self._roller.place(record, group)

    async def roll(self, record: TaskRecord, sample: int, place: Place) -> Done:
        """Roll out one trajectory."""
        return await self._roller.roll(record, sample, place)


async def tool_calls(count: int) -> list[float]:
    """Seconds of each of so many calls of `true` in a bubblewrap sandbox."""
    spec = SandboxSpec(image=HOST_IMAGE, workdir="/tmp")
    taken_s = []
    async with open_backend("bubblewrap") as sandboxes, sandboxes.open(spec) as sandbox:
        for _ in range(count):
            began_s = time.perf_counter()
            await sandbox.run("true", timeout_s=60.0)
            taken_s.append(time.perf_counter() - began_s)
    return taken_s


def run_state(config: RolloutConfig, tasks: int) -> RunState:
    """What jobs share where no orchestrator runs them."""
    watcher = RunProgress(Totals(), wanted=0, group_size=config.group_size)
    breaker = Breaker("work", config.consecutive_failures, tasks=tasks)
    return RunState(watcher, breaker, breaker, FirstAnswer(), watcher.spending)
