"""Errors of a set-up: told at once and once, and a task that cannot be used costs itself only."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from swe_aem.core import Sandbox, SandboxSpec, Stop, Task, TaskRecord, Trajectory
from swe_aem.errors import (
    ExtensionFailed,
    HarnessRaised,
    InfrastructureError,
    PolicyError,
    RunAborted,
    SandboxDead,
    TaskUnusable,
    UserError,
)
from swe_aem.policy import ContextOverflow, RunRefused
from swe_aem.rollout.breaker import Breaker
from swe_aem.rollout.causes import Causes, counted
from swe_aem.rollout.orchestrator import raise_first
from swe_aem.testing.sandbox import FakeBackend, FakeSandbox
from tests.rollout.fakes import GRADED, AskingAgent, FakeAgent, FakeChat, submit

MakeBench = Callable[..., Any]


def always(error: Exception) -> FakeChat:
    return FakeChat(fails=lambda chat: error)


def asking(bench: MakeBench, tasks: int, chat: FakeChat, **parts: Any) -> Any:
    return bench(tasks, **{"agent": AskingAgent(), "policies": lambda record, sample: chat} | parts)


# A policy that never answers


@pytest.mark.parametrize("agents", [1, 4])
async def test_a_policy_that_never_answers_ends_the_run_at_its_second_failure(bench: MakeBench, agents: int) -> None:
    chat = always(PolicyError("http://x answers 500: no"))
    made = asking(bench, 20, chat, scheduling={"concurrency": agents})
    with pytest.raises(RunAborted, match=r"answered no request, and 2 failed.*500: no.*repeat the command"):
        await made.run()
    assert len(chat.asked) <= 1 + agents
    assert made.stored() == {}


async def test_one_failure_before_the_first_answer_is_tried_again(bench: MakeBench) -> None:
    chat = FakeChat(fails=lambda chat: PolicyError("cold") if len(chat.asked) == 1 else None)
    made = asking(bench, 2, chat, scheduling={"concurrency": 1})
    assert sorted(one.attempt for one in (await made.run()).values()) == [0, 1]


async def test_a_policy_that_has_answered_may_fail_for_longer(bench: MakeBench) -> None:
    chat = FakeChat(fails=lambda chat: PolicyError("restarts") if 6 <= len(chat.asked) <= 9 else None)
    made = asking(bench, 3, chat, scheduling={"concurrency": 1, "max_attempts": 9})
    assert len(await made.run()) == 3


async def test_what_is_graded_when_a_policy_starts_to_refuse_everything_is_kept(bench: MakeBench) -> None:
    """A key is withdrawn, an account runs out of credit: what was finished was paid for."""
    is_graded, refused = asyncio.Event(), asyncio.Event()

    def fails(chat: FakeChat) -> Exception | None:
        if not is_graded.is_set():
            return None
        refused.set()
        return RunRefused("the account has no credit left")

    async def after_the_refusal(*_: Any) -> Any:
        is_graded.set()
        await refused.wait()
        return GRADED

    agent = AskingAgent(turns=lambda task_id, sample: 1 if task_id == "task-0" else 1_000_000)
    made = asking(bench, 9, FakeChat(fails=fails), agent=agent, scheduling={"concurrency": 2})
    made.grader.grading = after_the_refusal
    with pytest.raises(RunRefused, match="no credit left"):
        await made.run()
    assert list(made.stored()) == [("task-0", 0)]
    assert len([line for line in made.progress.news if "no credit left" in line]) == 1


async def test_a_policy_that_refuses_the_first_request_ends_the_run_at_once(bench: MakeBench) -> None:
    made = asking(bench, 9, always(RunRefused("http://x has no model m")), scheduling={"concurrency": 2})
    with pytest.raises(RunRefused, match="no model m"):
        await made.run()
    assert not made.progress.news


async def test_a_prompt_that_is_too_long_is_an_answer(bench: MakeBench) -> None:
    chat = always(ContextOverflow("too long"))

    class Overflows(AskingAgent):
        async def run(self, task: Task, sandbox: Sandbox, policy: Any, **options: Any) -> Trajectory:
            with pytest.raises(ContextOverflow):
                await policy.chat([], [], None, trajectory_id="")
            return await FakeAgent.run(self, task, sandbox, policy, **options)

    made = asking(bench, 4, chat, agent=Overflows())
    assert len(await made.run()) == 4


async def test_an_error_for_the_user_is_raised_once_however_many_agents_meet_it(bench: MakeBench) -> None:
    chat = always(UserError("http://x refuses the key of OPENAI_API_KEY (401)"))
    made = asking(bench, 20, chat, scheduling={"concurrency": 8})
    with pytest.raises(UserError, match="refuses the key") as raised:
        await made.run()
    assert raised.value.__context__ is None or raised.value.__suppress_context__
    assert len(chat.asked) <= 8
    assert not made.progress.news


def test_of_several_exceptions_the_first_is_raised_and_counts_the_others() -> None:
    group = BaseExceptionGroup(
        "", [ValueError("a"), ExceptionGroup("", [ValueError("a"), ValueError("a")]), OSError("b")]
    )
    with pytest.raises(ValueError, match="a") as raised:
        raise_first(group)
    assert raised.value.__notes__ == ["2 others ended with the same", "1 others ended with OSError: b"]


# Code of the user's own


async def test_what_an_own_policy_raises_is_not_tried_again(bench: MakeBench, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class Mine: ...")
    chat = always(ZeroDivisionError("mine"))
    settings = {"agent": "native", "policy": f"{tmp_path}/mine.py:Mine"}
    made = asking(bench, 5, chat, settings=settings, scheduling={"concurrency": 1})
    with pytest.raises(ExtensionFailed, match=r"policy .*mine.py:Mine raised ZeroDivisionError: mine") as raised:
        await made.run()
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    assert len(chat.asked) == 1


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("mine.py:converse", ZeroDivisionError("mine"), "agent mine.py:converse raised ZeroDivisionError: mine"),
        ("mine.py", HarnessRaised("the harness failed: Traceback: mine"), "agent mine.py: the harness failed: Trace"),
    ],
)
async def test_what_an_own_agent_raises_is_not_tried_again(
    bench: MakeBench, name: str, error: Exception, says: str
) -> None:
    async def fail(*_: Any) -> Stop:
        raise error

    settings = {"agent": name, "policy": "http://localhost:9", "tokenizer": "bytes"}
    made = bench(5, agent=FakeAgent(behaviour=fail), settings=settings, scheduling={"concurrency": 1})
    with pytest.raises(ExtensionFailed, match=says):
        await made.run()
    assert len(made.agent.runs) == 1


async def test_what_a_bundled_harness_raises_is_tried_again(bench: MakeBench) -> None:
    async def fail_once(agent: FakeAgent, task: Any, sandbox: Any, sample: int) -> Stop:
        if len(agent.runs) == 1:
            raise HarnessRaised("the harness failed: KeyError")
        return await submit(agent, task, sandbox, sample)

    made = bench(1, agent=FakeAgent(behaviour=fail_once), settings={"agent": "mini-swe-agent", "policy": "noop"})
    assert (await made.run())["task-0", 0].attempt == 1


# Tasks that cannot be used


def without_images(*missing: str) -> FakeBackend:
    class Backend(FakeBackend):
        @asynccontextmanager
        async def open(self, spec: SandboxSpec) -> AsyncIterator[FakeSandbox]:
            task = spec.labels["trajectory"].rpartition(".")[0]
            if task in missing:
                raise TaskUnusable(f"the docker engine has no image of {task}")
            async with super().open(spec) as sandbox:
                yield sandbox

    return Backend()


async def test_a_task_without_its_image_costs_itself_only_and_is_tried_again_by_a_rerun(bench: MakeBench) -> None:
    made = bench(4, backend=without_images("task-0", "task-2"), settings={"group_size": 3})
    stored = await made.run()
    assert {task_id for task_id, _ in stored} == {"task-1", "task-3"}
    assert made.progress.left_out == {
        task: f"the docker engine has no image of {task}" for task in ("task-0", "task-2")
    }
    assert sum("LEFT OUT: task-0" in line for line in made.progress.news) == 1
    assert made.progress.summary().left_out == made.progress.left_out
    assert len(await made.run()) == 6, "they are left out by a rerun, which has nothing else to do, too"
    made.backend = FakeBackend()
    assert len(await made.run()) == 12


async def test_a_run_none_of_whose_tasks_can_be_used_says_so(bench: MakeBench) -> None:
    made = bench(3, backend=without_images("task-0", "task-1", "task-2"))
    with pytest.raises(UserError, match=r"(task-\d): .* no image of \1 \(2 more tasks cannot be rolled out\)"):
        await made.run()


async def test_a_workspace_that_cannot_be_made_is_the_tasks_own(bench: MakeBench) -> None:
    made = bench(2)
    components = made.components

    def without_a_repository(task_id: str) -> None:
        if task_id == "task-0":
            raise UserError("no commit 123")

    made.components = lambda: components().__class__(**{**vars(components()), "workspace": without_a_repository})
    assert set(await made.run()) == {("task-1", 0)}
    assert made.progress.left_out == {"task-0": "no commit 123"}


async def test_failures_of_one_task_alone_do_not_end_a_run_of_many(bench: MakeBench) -> None:
    made = bench(5, settings={"group_size": 8}, scheduling={"concurrency": 1, "max_consecutive_failures": 4})
    prepare = made.prepare

    async def fails_in_task_0(sandbox: Any, record: TaskRecord) -> Any:
        if record.task.id == "task-0":
            raise InfrastructureError("cannot be brought to its starting state")
        return await prepare(sandbox, record)

    made.prepare = fails_in_task_0
    stored = await made.run()
    assert {task_id for (task_id, _), one in stored.items() if one.reward is None} == {"task-0"}
    assert len(stored) == 40


def test_the_breaker_counts_failures_of_several_tasks() -> None:
    breaker = Breaker("work", 4, tasks=9)
    for task in ("a", "a", "a", "a", "b", "b"):
        breaker.failed(InfrastructureError("x"), task)
    with pytest.raises(RunAborted, match="7 attempts in a row"):
        breaker.failed(InfrastructureError("x"), "c")


# Causes, told once


async def test_a_cause_is_told_once_and_counted(bench: MakeBench) -> None:
    async def fail(agent: FakeAgent, task: Any, sandbox: Any, sample: int) -> Stop:
        if task.id != "task-9" and len(agent.runs) <= 30:
            raise SandboxDead(
                f"sandbox swe-aem-{len(agent.runs):012x} of {task.id} is gone after {len(agent.runs)}.5 s"
            )
        return await submit(agent, task, sandbox, sample)

    made = bench(10, agent=FakeAgent(behaviour=fail), scheduling={"concurrency": 1, "max_consecutive_failures": 99})
    await made.run()
    told = [line for line in made.progress.news if "SandboxDead" in line]
    assert len(told) == 3, "the first, the tenth, and the count at the end"
    assert "the same 10 times by now" in told[1]
    ((cause, times),) = made.progress.summary().failure_causes.items()
    assert cause.startswith("agent: SandboxDead: sandbox swe-aem-000000000001 of TASK is gone after 1.5 s")
    assert times == sum(one.attempt for one in made.stored().values()) + sum(
        one.reward is None for one in made.stored().values()
    )
    assert told[2].startswith(f"{times} times: ")


def test_equal_phrases_are_said_once() -> None:
    assert counted(["a", "b", "a", "a"]) == "a (3 times); b"
    assert counted([]) == ""


def test_causes_differ_by_words_and_status_not_by_ids() -> None:
    causes = Causes()
    for text in (
        "x answers 404",
        "x answers 500",
        "box 0123456789ab is gone",
        "box ba9876543210 is gone",
        "9.1 s",
        "8.2 s",
    ):
        causes.add(text)
    assert list(causes.times.values()) == [1, 1, 2, 2]
    assert causes.after({"x answers 404": 3, "old": 1}) == {
        "x answers 404": 4, "old": 1, "x answers 500": 1, "box 0123456789ab is gone": 2, "9.1 s": 2,
    }  # fmt: skip
    for number in range(1000):
        causes.add("y" * number)
    assert len(causes.times) <= 51
