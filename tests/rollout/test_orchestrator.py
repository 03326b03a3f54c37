"""The orchestrator over fakes: flow, limits, retries, interruption, exactly once."""

import asyncio
import os
import random
import socket
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swe_aem.core import Completion, Deadline, Outcome, SamplingParams, Sandbox, SandboxSpec, Stop, Task, Verdict
from swe_aem.errors import GraderError, InfrastructureError, PolicyError, SandboxDead, StartError, UserError
from swe_aem.rollout import RunAborted, local_roller
from swe_aem.rollout.recording import RecordingSandbox
from swe_aem.testing.builders import make_record
from swe_aem.testing.sandbox import FakeBackend, FakeSandbox
from tests.rollout.fakes import FakeAgent, FakeGrader, FakePolicy, capture_nothing, resolve, submit
from tests.waiting import until

MakeBench = Callable[..., Any]

ONE_AFTER_THE_OTHER = {"concurrency": 1}
"""Something works after task-0 has failed, so the failure is stored."""


def of_task_0(sandbox: FakeSandbox | SandboxSpec) -> bool:
    spec = sandbox if isinstance(sandbox, SandboxSpec) else sandbox.spec
    return spec.labels["trajectory"].startswith("task-0.")


def bare(sandbox: Any) -> Any:
    """The sandbox below what records an agent's calls."""
    return sandbox.sandbox if isinstance(sandbox, RecordingSandbox) else sandbox


def in_task_0(fault: Callable[..., Any], otherwise: Callable[..., Any]) -> Callable[..., Any]:
    """Does what `fault` does in sandboxes of task-0, and what `otherwise` does in others."""

    async def chosen(*arguments: Any) -> Any:
        sandbox = next(bare(one) for one in arguments if isinstance(bare(one), FakeSandbox))
        return await (fault if of_task_0(sandbox) else otherwise)(*arguments)

    return chosen


async def test_every_sample_of_every_task_is_stored_once_and_resolved(bench: MakeBench) -> None:
    made = bench(3, settings={"group_size": 4})
    stored = await made.run()
    assert set(stored) == {(f"task-{n}", sample) for n in range(3) for sample in range(4)}
    for one in stored.values():
        assert (one.outcome, one.reward, one.attempt) == (Outcome.RESOLVED, 1.0, 0)
        assert one.patch
        assert {"queue", "start", "prepare", "agent", "patch", "grade_queue", "grade", "total"} == set(one.timings_s)
    assert not made.backend.live
    assert made.progress.running.total() == 0


async def test_each_trajectory_has_an_agent_and_a_grading_sandbox_with_labels(bench: MakeBench) -> None:
    made = bench(1)
    await made.run()
    agent, grader = made.backend.opened
    assert agent.spec.labels == {"run": "run", "trajectory": "task-0.0", "role": "agent"}
    assert grader.spec.labels["role"] == "grader"
    assert agent.commands == ["prepare", "work", "capture"]
    assert grader.commands == ["grade"]
    assert agent.spec.ttl_s > 5.0


async def test_the_agents_sandbox_is_gone_before_grading(bench: MakeBench) -> None:
    made = bench(1)

    async def grading(grader: Any, record: Any, patch: Any, sandbox: FakeSandbox) -> Verdict:
        assert made.backend.live == [sandbox]
        return await resolve(grader, record, patch, sandbox)

    made.grader.grading = grading
    assert (await made.run())["task-0", 0].outcome is Outcome.RESOLVED


async def test_the_grading_sandbox_starts_while_the_agent_works(bench: MakeBench) -> None:
    made = bench(1)

    async def look(agent: Any, task: Any, sandbox: Any, sample: int) -> Stop:
        await until(lambda: len(made.backend.live) == 2)
        return Stop.SUBMITTED

    made.agent.behaviour = look
    await made.run()


@pytest.mark.parametrize("stop", [Stop.SUBMITTED, Stop.TURN_LIMIT, Stop.MALFORMED])
async def test_an_empty_patch_is_not_graded(bench: MakeBench, stop: Stop) -> None:
    async def end(*_: Any) -> Stop:
        return stop

    made = bench(1, agent=FakeAgent(behaviour=end), capture=capture_nothing)
    one = (await made.run())["task-0", 0]
    assert one.reward == 0.0
    assert one.outcome == {Stop.SUBMITTED: "empty_patch", Stop.TURN_LIMIT: "turn_limit"}.get(stop, "malformed")
    assert made.grader.graded == []


class CountingBackend(FakeBackend):
    """Starts take time, and the most of them at once is known."""

    def __init__(self, start_s: float = 0.005, **options: Any) -> None:
        super().__init__(**options)
        self.start_s = start_s
        self.starting = self.most_starting = self.most_live = 0

    @asynccontextmanager
    async def open(self, spec: SandboxSpec) -> AsyncIterator[FakeSandbox]:
        self.starting += 1
        self.most_starting = max(self.most_starting, self.starting)
        try:
            await asyncio.sleep(self.start_s)
        finally:
            self.starting -= 1
        async with super().open(spec) as sandbox:
            self.most_live = max(self.most_live, len(self.live))
            yield sandbox


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=8, deadline=None)
@given(
    concurrency=st.integers(1, 4),
    starting=st.integers(1, 3),
    grading=st.integers(1, 3),
    group_size=st.integers(1, 4),
    seed=st.integers(0, 999),
)
def test_limits_are_never_exceeded(
    tmp_path_factory: pytest.TempPathFactory,
    bench: MakeBench,
    concurrency: int,
    starting: int,
    grading: int,
    group_size: int,
    seed: int,
) -> None:
    dice = random.Random(seed)

    async def work(agent: Any, task: Any, sandbox: Any, sample: int) -> Stop:
        await asyncio.sleep(dice.random() * 0.01)
        if dice.random() < 0.2:
            raise SandboxDead("by chance")
        return Stop.SUBMITTED

    made = bench(
        4,
        directory=tmp_path_factory.mktemp("limits"),
        agent=FakeAgent(behaviour=work),
        grader=FakeGrader(work_s=0.005),
        backend=CountingBackend(),
        settings={"group_size": group_size},
        scheduling={
            "concurrency": concurrency,
            "starting": starting,
            "grading": grading,
            "max_consecutive_failures": 999,
            "max_attempts": 20,
        },
    )
    asyncio.run(made.run())
    assert made.agent.most <= concurrency
    assert made.grader.most <= grading
    assert made.backend.most_starting <= starting
    assert made.backend.most_live <= 2 * concurrency + grading
    assert len(made.stored()) == 4 * group_size
    assert not made.backend.live


async def test_work_is_done_at_once_up_to_the_limits(bench: MakeBench) -> None:
    made = bench(
        8,
        agent=FakeAgent(work_s=0.05),
        grader=FakeGrader(work_s=0.05),
        scheduling={"concurrency": 4, "grading": 2, "starting": 4},
    )
    await made.run()
    assert (made.agent.most, made.grader.most) == (4, 2)


async def test_agents_do_not_run_ahead_of_grading(bench: MakeBench) -> None:
    made = bench(
        12, grader=FakeGrader(work_s=0.03), backend=CountingBackend(0), scheduling={"concurrency": 2, "grading": 1}
    )
    await made.run()
    assert made.backend.most_live <= 5


# Infrastructure failures


async def test_failed_starts_are_retried(bench: MakeBench) -> None:
    made = bench(1, backend=FakeBackend(fail_starts=2))
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.attempt, one.error) == (Outcome.RESOLVED, 2, None)


async def test_starts_that_always_fail_end_as_infrastructure(bench: MakeBench) -> None:
    class Backend(FakeBackend):
        def open(self, spec: SandboxSpec) -> Any:
            self.fail_starts = int(of_task_0(spec))
            return super().open(spec)

    made = bench(2, backend=Backend(), scheduling=ONE_AFTER_THE_OTHER)
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.reward, one.attempt) == (Outcome.INFRASTRUCTURE, None, 2)
    assert one.error == "agent: StartError: the fake was told to fail this start (3 times)"
    assert made.progress.totals.retries == 2


async def test_a_sandbox_that_dies_midway_is_replaced_by_a_fresh_one(bench: MakeBench) -> None:
    async def die_once(agent: Any, task: Any, sandbox: FakeSandbox, sample: int) -> Stop:
        if len(agent.runs) == 1:
            await sandbox.close()
            raise SandboxDead("gone")
        return await submit(agent, task, sandbox, sample)

    made = bench(1, agent=FakeAgent(behaviour=die_once))
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.attempt) == (Outcome.RESOLVED, 1)
    agents = [sandbox for sandbox in made.backend.opened if sandbox.spec.labels["role"] == "agent"]
    assert len(agents) == 2
    assert not made.backend.live


@pytest.mark.parametrize("error", [PolicyError("server gone"), SandboxDead("gone"), InfrastructureError("odd")])
async def test_errors_of_the_agents_side_end_as_infrastructure(bench: MakeBench, error: InfrastructureError) -> None:
    async def fail(*_: Any) -> Stop:
        raise error

    made = bench(2, agent=FakeAgent(behaviour=in_task_0(fail, submit)), scheduling=ONE_AFTER_THE_OTHER)
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.reward, one.model) == (Outcome.INFRASTRUCTURE, None, "fake-model")
    assert made.agent.runs == [("task-0", 0)] * 3 + [("task-1", 0)]
    assert made.grader.graded == ["task-1"]


async def test_a_failed_grade_is_repeated_without_the_agent(bench: MakeBench) -> None:
    async def fail_once(grader: Any, record: Any, patch: Any, sandbox: Any) -> Verdict:
        if len(grader.graded) < 2:
            raise GraderError("container lost")
        return await resolve(grader, record, patch, sandbox)

    made = bench(1, grader=FakeGrader(grading=fail_once))
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.attempt) == (Outcome.RESOLVED, 1)
    assert len(made.agent.runs) == 1
    roles = [sandbox.spec.labels["role"] for sandbox in made.backend.opened]
    assert (roles.count("agent"), roles.count("grader")) == (1, 2)


async def test_a_grade_that_never_works_keeps_the_trajectory_without_reward(bench: MakeBench) -> None:
    async def fail(*_: Any) -> Verdict:
        raise GraderError("container lost")

    grader = FakeGrader(grading=in_task_0(fail, resolve))
    made = bench(2, agent=FakeAgent(work_s=0.1), grader=grader, scheduling=ONE_AFTER_THE_OTHER)
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.reward, one.verdict) == (Outcome.GRADER_FAILURE, None, None)
    assert one.patch
    assert one.responses
    assert one.error is not None
    assert one.error.startswith("grading: GraderError: container lost; grading: GraderError: container lost (a control")
    assert one.error.endswith("(2 times)")


async def test_a_grading_sandbox_that_does_not_start_is_replaced(bench: MakeBench) -> None:
    class Backend(FakeBackend):
        failed = 0

        def open(self, spec: SandboxSpec) -> Any:
            if spec.labels["role"] == "grader" and self.failed < 1:
                self.failed += 1
                self.fail_starts = 1
            return super().open(spec)

    one = (await bench(1, backend=Backend()).run())["task-0", 0]
    assert (one.outcome, one.attempt) == (Outcome.RESOLVED, 1)


async def test_an_agent_that_ignores_its_deadline_is_given_up(bench: MakeBench) -> None:
    async def hang(*_: Any) -> Stop:
        await asyncio.sleep(60)
        return Stop.SUBMITTED

    made = bench(
        2,
        agent=FakeAgent(behaviour=in_task_0(hang, submit)),
        settings={"time_limit_s": 0.3},
        scheduling={"guard_s": 0.3, "max_attempts": 1, **ONE_AFTER_THE_OTHER},
    )
    async with asyncio.timeout(20):
        one = (await made.run())["task-0", 0]
    assert one.outcome is Outcome.INFRASTRUCTURE
    assert one.error is not None
    assert "the agent took longer than" in one.error
    assert not made.backend.live


class Asking(FakeAgent):
    """Asks the policy twice, and is out of time where the native agent would be."""

    async def run(self, task: Any, sandbox: Any, policy: Any, *, sample: int, deadline: Deadline) -> Any:
        for _ in range(2):
            await policy.sample([1], SamplingParams(max_tokens=1), trajectory_id="t.0")
        draft = await super().run(task, sandbox, policy, sample=sample, deadline=deadline)
        return draft.model_copy(update={"stop": Stop.TIME_LIMIT if deadline.expired() else Stop.SUBMITTED})


class Slow(FakePolicy):
    """A policy whose response takes that long."""

    def __init__(self, response_s: float) -> None:
        self.response_s = response_s
        self.unavailable_reason = "the server sleeps" if response_s > 100 else None

    async def sample(self, *args: Any, **kwargs: Any) -> Completion:
        await asyncio.sleep(self.response_s)
        return Completion(token_ids=(1,), logprobs=(0.0,), finish_reason="stop")


async def test_responses_that_take_long_use_up_no_time(bench: MakeBench) -> None:
    made = bench(1, agent=Asking(), policies=lambda record, sample: Slow(6.0), settings={"time_limit_s": 10.0})
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.attempt) == (Outcome.RESOLVED, 0)


async def test_waiting_for_responses_is_bounded_and_no_limit_that_the_policy_reached(bench: MakeBench) -> None:
    made = bench(
        2,
        agent=Asking(),
        policies=lambda record, sample: Slow(600.0 if record.task.id == "task-0" else 0.0),
        settings={"time_limit_s": 0.2},
        scheduling={"max_attempts": 1, "guard_s": 60.0, **ONE_AFTER_THE_OTHER},
    )
    async with asyncio.timeout(60):
        one = (await made.run())["task-0", 0]
    assert (one.outcome, one.reward) == (Outcome.INFRASTRUCTURE, None)
    assert (
        "the agent, with its waiting for responses and processors, took longer than 2.0 s: the server sleeps"
        in one.error
    )


@pytest.mark.parametrize("where", ["start", "prepare", "capture", "grade"])
async def test_no_wait_is_endless(bench: MakeBench, where: str) -> None:
    async def hang(*_: Any) -> Any:
        await asyncio.sleep(60)

    class SlowStarts(FakeBackend):
        @asynccontextmanager
        async def open(self, spec: SandboxSpec) -> AsyncIterator[FakeSandbox]:
            if of_task_0(spec):
                await hang()
            async with super().open(spec) as sandbox:
                yield sandbox

    limits = dict.fromkeys(("setup_limit_s", "start_limit_s", "grade_extra_s"), 0.15)
    made = bench(2, agent=FakeAgent(work_s=0.6), scheduling={"max_attempts": 1, **limits, **ONE_AFTER_THE_OTHER})
    made.records = [make_record("task-0", timeout_s=0.15), make_record("task-1", timeout_s=0.15)]
    if where == "start":
        made.backend = SlowStarts()
    elif where == "prepare":
        made.prepare = in_task_0(hang, made.prepare)
    elif where == "capture":
        made.capture = in_task_0(hang, made.capture)
    else:
        made.grader.grading = in_task_0(hang, resolve)
        made.scheduling |= {"grading": 1}
        made.settings |= {"twins": False}  # which have time of their own
    async with asyncio.timeout(20):
        one = (await made.run())["task-0", 0]
    assert one.outcome is (Outcome.GRADER_FAILURE if where == "grade" else Outcome.INFRASTRUCTURE)
    assert not made.backend.live


async def test_time_that_is_up_before_the_first_response_says_nothing_of_the_policy(bench: MakeBench) -> None:
    class Mute(FakeAgent):
        async def run(self, task: Any, *args: Any, **kwargs: Any) -> Any:
            draft = await super().run(task, *args, **kwargs)
            mute = {"responses": (), "stop": Stop.TIME_LIMIT}
            return draft.model_copy(update=mute) if task.id == "task-0" else draft

    made = bench(2, agent=Mute(), scheduling={"max_attempts": 2, **ONE_AFTER_THE_OTHER})
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.reward, one.attempt) == (Outcome.INFRASTRUCTURE, None, 1)
    assert "before the policy's first response" in one.error


async def test_waiting_for_a_grading_place_is_bounded(bench: MakeBench) -> None:
    made = bench(
        2,
        grader=FakeGrader(work_s=0.3),
        scheduling={"grading": 1, "grade_queue_limit_s": 0.05},
    )
    outcomes = Counter(one.outcome for one in (await made.run()).values())
    assert outcomes == {Outcome.RESOLVED: 1, Outcome.GRADER_FAILURE: 1}


async def test_a_broken_engine_stops_the_run_and_leaves_no_holes(bench: MakeBench) -> None:
    made = bench(50, backend=FakeBackend(fail_starts=10_000), scheduling={"max_consecutive_failures": 12})
    with pytest.raises(RunAborted, match=r"12 attempts in a row to run the agent failed.*StartError"):
        await made.run()
    assert made.stored() == {}
    made.backend = FakeBackend()
    assert len(await made.run()) == 50


async def test_a_run_too_short_for_the_breaker_leaves_no_holes_either(bench: MakeBench) -> None:
    made = bench(3, backend=FakeBackend(fail_starts=10_000))
    with pytest.raises(RunAborted, match=r"the last 3 trajectories failed .* none succeeded after them.*StartError"):
        await made.run()
    assert made.stored() == {}
    made.backend = FakeBackend()
    assert {one.outcome for one in (await made.run()).values()} == {Outcome.RESOLVED}


@pytest.mark.parametrize("broken", [PolicyError("no server"), StartError("no engine")])
async def test_failures_after_the_last_success_are_not_stored(bench: MakeBench, broken: InfrastructureError) -> None:
    async def breaks(agent: Any, task: Any, sandbox: FakeSandbox, sample: int) -> Stop:
        if task.id == "task-2":
            await until(lambda: made.progress.totals.trajectories == 2)  # task-0 and task-1
            made.backend.fail_starts = 10_000 if isinstance(broken, StartError) else 0  # controls fail too
        if task.id in ("task-0", "task-2"):
            raise broken
        return await submit(agent, task, sandbox, sample)

    made = bench(3, agent=FakeAgent(behaviour=breaks), scheduling=ONE_AFTER_THE_OTHER)
    with pytest.raises(RunAborted, match="the last 1 trajectories failed"):
        await made.run()
    outcomes = {task: one.outcome for (task, _), one in made.stored().items()}
    assert outcomes == {"task-0": Outcome.INFRASTRUCTURE, "task-1": Outcome.RESOLVED}


async def test_an_interrupted_run_does_not_store_failures_after_which_nothing_worked(bench: MakeBench) -> None:
    made = bench(9, backend=FakeBackend(fail_starts=10_000), scheduling={"max_consecutive_failures": 999})
    async with made.orchestrator() as orchestrator:
        made.progress.failed = lambda failed: orchestrator.stop()
        await orchestrator.run()
        assert orchestrator.interrupted
    assert made.stored() == {}
    assert any("none succeeded after them" in line for line in made.progress.news)


async def test_a_broken_grader_stops_the_run_although_agents_work(bench: MakeBench) -> None:
    async def fail(*_: Any) -> Verdict:
        raise GraderError("no image")

    made = bench(50, grader=FakeGrader(grading=fail), scheduling={"max_consecutive_failures": 12})
    with pytest.raises(RunAborted, match="grade a patch"):
        await made.run()
    assert not made.backend.live


async def test_failures_now_and_then_do_not_stop_the_run(bench: MakeBench) -> None:
    async def every_other(agent: Any, task: Any, sandbox: Any, sample: int) -> Stop:
        if len(agent.runs) % 2:
            raise SandboxDead("every other one")
        return await submit(agent, task, sandbox, sample)

    made = bench(
        30, agent=FakeAgent(behaviour=every_other), scheduling={"concurrency": 1, "max_consecutive_failures": 2}
    )
    assert len(await made.run()) == 30


# Bugs and bad input


@pytest.mark.parametrize("error", [RuntimeError("a bug"), UserError("no such model")])
async def test_what_is_not_infrastructure_surfaces_and_ends_everything(bench: MakeBench, error: Exception) -> None:
    async def break_one(agent: Any, task: Any, sandbox: Any, sample: int) -> Stop:
        if task.id == "task-2":
            raise error
        await asyncio.sleep(30)
        return Stop.SUBMITTED

    made = bench(6, agent=FakeAgent(behaviour=break_one))
    async with asyncio.timeout(20):
        with pytest.raises(type(error), match=str(error)):
            await made.run()
    assert not made.backend.live


async def test_a_store_that_cannot_be_written_surfaces(bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("swe_aem.store.store.StoreWriter.append_line", full)
    with pytest.raises(OSError, match="No space"):
        await bench(6).run()


# Interruption and resumption


async def test_stop_finishes_what_runs_and_starts_nothing_more(bench: MakeBench) -> None:
    stopped = asyncio.Event()

    async def ends_after_the_stop(agent: FakeAgent, task: Task, sandbox: Sandbox, sample: int) -> Stop:
        await stopped.wait()
        return await submit(agent, task, sandbox, sample)

    made = bench(20, agent=FakeAgent(ends_after_the_stop), scheduling={"concurrency": 3})
    async with made.orchestrator() as orchestrator:
        run = asyncio.create_task(orchestrator.run())
        await until(lambda: made.agent.running == 3)
        orchestrator.stop()
        stopped.set()
        await run
        assert orchestrator.interrupted
    assert len(made.stored()) == len(made.agent.runs) == 3
    assert len(await made.run()) == 20
    assert Counter(made.agent.runs).most_common(1)[0][1] == 1, "nothing was rolled out twice"


async def test_the_drain_is_bounded(bench: MakeBench) -> None:
    made = bench(2, agent=FakeAgent(work_s=30), scheduling={"drain_limit_s": 0.05})
    async with asyncio.timeout(20), made.orchestrator() as orchestrator:
        asyncio.get_running_loop().call_later(0.02, orchestrator.stop)
        await orchestrator.run()
    assert made.stored() == {}
    assert not made.backend.live


async def test_the_drain_limit_ends_with_the_run(bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    made = bench(2, scheduling={"drain_limit_s": 1000})
    loop = asyncio.get_running_loop()
    call_later, limits = loop.call_later, list[asyncio.TimerHandle]()

    def watched(delay: float, callback: Any, *arguments: Any, **options: Any) -> asyncio.TimerHandle:
        timer = call_later(delay, callback, *arguments, **options)
        if callback == orchestrator.cancel:
            limits.append(timer)
        return timer

    monkeypatch.setattr(loop, "call_later", watched)
    async with made.orchestrator() as orchestrator:
        orchestrator.stop()
        assert [limit.cancelled() for limit in limits] == [False]
        await orchestrator.run()
    assert [limit.cancelled() for limit in limits] == [True]


async def test_a_second_cancellation_does_not_break_off_the_cleaning_up_of_the_first(bench: MakeBench) -> None:
    cleaned: list[str] = []

    async def cleans(what: str) -> None:
        asyncio.get_running_loop().call_soon(orchestrator.cancel)
        await asyncio.sleep(0.05)
        cleaned.append(what)

    class SlowToClean(FakeBackend):
        @asynccontextmanager
        async def open(self, spec: SandboxSpec) -> AsyncIterator[FakeSandbox]:
            async with super().open(spec) as sandbox:
                try:
                    yield sandbox
                finally:
                    await cleans(spec.labels["role"])

        async def prune(self, *, everything: bool = False) -> list[str]:
            if self.opened:  # at exit
                await cleans("orphans")
            return []

    async def cancels() -> None:
        await until(lambda: len(made.backend.live) == 2)
        orchestrator.cancel()

    made = bench(1, agent=FakeAgent(work_s=3000), backend=SlowToClean())
    async with made.orchestrator() as orchestrator, asyncio.TaskGroup() as together:
        together.create_task(cancels())
        await orchestrator.run()
    assert sorted(cleaned) == ["agent", "grader", "orphans"]


async def test_an_interruption_of_the_caller_closes_everything(bench: MakeBench) -> None:
    made = bench(2, agent=FakeAgent(work_s=30))
    task = asyncio.create_task(made.run())
    await until(lambda: made.backend.live)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not made.backend.live


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12, deadline=None)
@given(delays=st.lists(st.floats(0, 0.06), min_size=1, max_size=5), seed=st.integers(0, 999))
def test_cancelled_at_random_moments_it_leaves_no_sandbox_and_every_record_once(
    tmp_path_factory: pytest.TempPathFactory, bench: MakeBench, delays: list[float], seed: int
) -> None:
    dice = random.Random(seed)

    async def work(agent: Any, task: Any, sandbox: Any, sample: int) -> Stop:
        await asyncio.sleep(dice.random() * 0.01)
        if dice.random() < 0.1:
            raise SandboxDead("by chance")
        return await submit(agent, task, sandbox, sample)

    made = bench(
        6,
        directory=tmp_path_factory.mktemp("cancel"),
        agent=FakeAgent(behaviour=work),
        grader=FakeGrader(work_s=0.004),
        backend=CountingBackend(0.002),
        settings={"group_size": 3},
        scheduling={"max_consecutive_failures": 999, "max_attempts": 20},
    )

    async def cancelled_after(delay: float) -> None:
        async with made.orchestrator() as orchestrator:
            asyncio.get_running_loop().call_later(delay, orchestrator.cancel)
            await orchestrator.run()

    for delay in delays:
        before = set(made.stored()) if made.directory.exists() else set()
        asyncio.run(cancelled_after(delay))
        assert not made.backend.live
        assert before <= set(made.stored()), "a finished record was lost"
    stored = asyncio.run(made.run())
    assert len(stored) == 18
    assert not made.backend.live


async def test_a_rerun_completes_unfinished_groups_and_a_larger_group(bench: MakeBench) -> None:
    made = bench(3, settings={"group_size": 2})
    await made.run()
    made.settings = {"group_size": 4}
    assert len(await made.run()) == 12
    assert len(made.agent.runs) == 12


# Oversampling


async def test_oversampling_fills_groups_that_lost_members_to_our_faults(bench: MakeBench) -> None:
    async def first_sample_fails(agent: Any, task: Any, sandbox: Any, sample: int) -> Stop:
        if sample == 0:
            raise SandboxDead("always")
        return await submit(agent, task, sandbox, sample)

    made = bench(
        2,
        agent=FakeAgent(behaviour=first_sample_fails),
        settings={"group_size": 2, "oversample": 1},
        scheduling={"max_consecutive_failures": 99},
    )
    stored = await made.run()
    assert len(stored) == 6
    assert made.progress.totals.counted == {"task-0": 2, "task-1": 2}


async def test_early_completion_cancels_the_surplus_and_counts_it(bench: MakeBench) -> None:
    async def slow_last(agent: Any, task: Any, sandbox: Any, sample: int) -> Stop:
        await asyncio.sleep(30 if sample == 1 else 0.01)
        return Stop.SUBMITTED

    made = bench(
        2,
        agent=FakeAgent(behaviour=slow_last),
        settings={"group_size": 3, "oversample": 1, "early_completion": True},
        scheduling={"concurrency": 4},
    )
    async with asyncio.timeout(20):
        stored = await made.run()
    assert sorted(stored) == [(f"task-{n}", sample) for n in range(2) for sample in (0, 2, 3)]
    assert made.progress.surplus_cancelled == 2
    assert not made.backend.live
    assert made.progress.running.total() == 0
    before = len(made.agent.runs)
    await made.run()
    assert len(made.agent.runs) == before, "a complete group is left alone by a rerun"


async def test_early_completion_does_not_start_what_is_not_needed(bench: MakeBench) -> None:
    made = bench(
        1,
        agent=FakeAgent(work_s=0.05),
        settings={"group_size": 2, "oversample": 6, "early_completion": True},
        scheduling={"concurrency": 1},
    )
    stored = await made.run()
    assert 2 <= len(stored) <= 4
    assert made.progress.running.total() == 0


@pytest.mark.parametrize("broken", [1, 2])
async def test_orphans_are_pruned_at_start_and_exit(bench: MakeBench, broken: int) -> None:
    pruned: list[bool] = []

    class Backend(FakeBackend):
        async def prune(self, *, everything: bool = False) -> list[str]:
            pruned.append(everything)
            if len(pruned) == broken:
                raise StartError("engine gone")
            return []

    made = bench(1, backend=Backend())
    assert len(await made.run()) == 1, "a failure to prune does not spoil the run"
    assert pruned == [False, False]
    assert any("sandbox prune" in line for line in made.progress.news)


async def test_scratch_directories_of_dead_runs_go_at_start(
    bench: MakeBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / f"swe-aem-log-{os.getpid()}-1-{socket.gethostname()}-abcdefgh"
    left.mkdir()
    assert len(await bench(1).run()) == 1
    assert not left.exists()


async def test_pruning_is_bounded(bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    class Backend(FakeBackend):
        async def prune(self, *, everything: bool = False) -> list[str]:
            await asyncio.sleep(60)
            return []

    monkeypatch.setattr(local_roller, "_PRUNE_LIMIT_S", 0.05)
    made = bench(1, backend=Backend())
    async with asyncio.timeout(20):
        assert len(await made.run()) == 1
    assert sum("took longer than" in line for line in made.progress.news) == 2
