"""A harness in processes of its own: a whole trajectory, every way to end, and every fault."""

import asyncio
import os
import signal
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from swe_aem.core import Deadline, ExecResult, SandboxSpec, Stop, Trajectory
from swe_aem.errors import HarnessError, PolicyError, SandboxDead, UserError
from swe_aem.harness import HarnessConfig, open_harness
from swe_aem.harness.spec import read_harness_spec
from swe_aem.rollout.agent_clock import AgentClock
from swe_aem.testing.chat import ScriptedChat, calls
from swe_aem.testing.sandbox import FakeSandbox
from tests.harness.conftest import DONE, LIMITS, RENDERER, RUN, TASK, called
from tests.waiting import until


def check_exact(trajectory: Trajectory) -> None:
    """One stream, whose sampled tokens are the policy's responses."""
    assert trajectory.branches == ()
    spans = [trajectory.token_ids[response.start : response.end] for response in trajectory.responses]
    assert set(spans) <= {tuple(RUN), tuple(DONE)}
    assert trajectory.responses[-1].end == len(trajectory.token_ids)


async def test_a_whole_trajectory(staged: Any) -> None:
    async with staged() as stage:
        trajectory = await stage.play([RUN, DONE], handler=lambda sandbox, command: (3, b"caf\xc3\xa9\xff"))
    check_exact(trajectory)
    assert (trajectory.agent, trajectory.stop, trajectory.model) == ("my_agent", Stop.SUBMITTED, "played")
    call = trajectory.responses[0].tool_calls[0]
    assert (call.name, call.observation) == ("run", "café\ufffd\n[exit code 3]")
    assert "Fix this issue in /repo." in trajectory.messages[0]["content"]


async def test_a_chat_api_takes_part_without_a_tokenizer(make_spec: Any) -> None:
    spec = await asyncio.to_thread(make_spec)
    policy = ScriptedChat([calls(("run", {"command": "ls"}), reasoning_content="Hm."), calls(("done", {}))])
    sandbox = FakeSandbox("fake", SandboxSpec(image="i"), lambda sandbox, command: (0, b"a.py"))
    async with open_harness(spec, HarnessConfig(), None) as agents:
        trajectory = await agents(LIMITS).run(TASK, sandbox, policy, sample=0, deadline=Deadline.after(60))
    assert (trajectory.stop, trajectory.token_ids, trajectory.token_exact) == (Stop.SUBMITTED, (), False)
    assert trajectory.responses[0].tool_calls[0].observation == "a.py\n[exit code 0]"
    assert policy.requests[1].messages[1]["reasoning_content"] == "Hm.", "which the harness may well have dropped"


async def test_many_at_once_share_processes(staged: Any) -> None:
    async with staged(conversations=3, workers=2) as stage:
        played = await asyncio.gather(*(stage.play([RUN, RUN, DONE]) for _ in range(10)))
        assert len(stage.pool.workers) == 2
    for trajectory in played:
        check_exact(trajectory)


async def test_files_and_errors_cross(staged: Any) -> None:
    use = (
        'conversation.sandbox.write_file("/a", bytes(range(256)))\n'
        '    assert conversation.sandbox.read_file("/a") == bytes(range(256))\n'
        "    try:\n"
        '        conversation.sandbox.read_file("/b")\n'
        "    except FileNotFoundError as error:\n"
        '        assert error.filename == "/b"\n'
        "    else:\n"
        "        raise AssertionError\n"
    )
    async with staged("messages = [{", f"{use}    messages = [{{") as stage:
        assert (await stage.play([DONE])).stop is Stop.SUBMITTED


async def test_what_is_no_command_line_is_an_observation(staged: Any) -> None:
    from swe_aem.core import Limits, SandboxSpec
    from swe_aem.sandbox.warden import WardenSandbox

    sandbox = WardenSandbox("w", SandboxSpec(image="i", limits=Limits()), None, {}, None, None)  # type: ignore[arg-type]
    async with staged() as stage:
        trajectory = await stage.play([called("run", command="a\0b"), DONE], sandbox=sandbox)
    assert "exit code 126" in trajectory.responses[0].tool_calls[0].observation


async def test_limits_end_it_whatever_the_harness_does(staged: Any) -> None:
    async with staged(limits=LIMITS.model_copy(update={"max_turns": 3})) as stage:
        trajectory = await stage.play([RUN])
    assert (trajectory.stop, len(trajectory.responses)) == (Stop.TURN_LIMIT, 3)
    check_exact(trajectory)


async def test_context_limit(staged: Any) -> None:
    async with staged(limits=LIMITS.model_copy(update={"max_context_tokens": 3000})) as stage:
        trajectory = await stage.play([RUN], handler=lambda sandbox, command: (0, b"x" * 1000))
    assert trajectory.stop is Stop.CONTEXT_LIMIT


@pytest.mark.parametrize("waits", [False, True])
async def test_waiting_for_responses_does_not_end_it(staged: Any, waits: bool) -> None:
    now_s = 0.0

    async def slow() -> list[int]:
        nonlocal now_s
        with clock.response() if waits else nullcontext():
            now_s += 100.0
            await asyncio.sleep(0.3)  # in which the agent looks whether its time is up
        return RUN

    clock = AgentClock(0.1, lambda: now_s)
    async with staged() as stage:
        trajectory = await stage.play([slow, slow, DONE], deadline=clock.deadline)
    stop, responses = (Stop.SUBMITTED, 3) if waits else (Stop.TIME_LIMIT, 0)
    assert (trajectory.stop, len(trajectory.responses)) == (stop, responses)


async def test_a_command_gets_no_more_time_than_is_left(staged: Any) -> None:
    limits_s: list[float] = []

    class Endless(FakeSandbox):
        async def run(self, command: str, **options: Any) -> ExecResult:
            nonlocal now_s
            limits_s.append(options["timeout_s"])
            now_s += options["timeout_s"]
            return await super().run(command, **options)

    now_s = 0.0
    sandbox = Endless("endless", SandboxSpec(image="i"), lambda sandbox, command: (124, b""))
    async with staged() as stage:
        trajectory = await stage.play([RUN], sandbox=sandbox, deadline=Deadline(1.0, lambda: now_s))
    assert (trajectory.stop, limits_s, len(trajectory.responses)) == (Stop.TIME_LIMIT, [1.0], 1)


async def test_a_client_that_never_comes_back_runs_out_of_time(staged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swe_aem.harness.worker_process.OVER_GRACE_S", 0.2)
    async with staged("messages = [{", "import time; time.sleep(3600); messages = [{") as stage:
        started = time.monotonic()
        trajectory = await stage.play([DONE], deadline=Deadline.after(0.5))
        assert (trajectory.stop, trajectory.responses) == (Stop.TIME_LIMIT, ())
        assert time.monotonic() - started < 10
        assert stage.pool.workers == [], "its process is gone"
        trajectory = await stage.play([DONE], deadline=Deadline.after(0.5))
        assert trajectory.stop is Stop.TIME_LIMIT


async def test_repeated_malformed_calls(staged: Any) -> None:
    broken = RENDERER.tokenizer.encode("<tool_call>\nls\n</tool_call><|im_end|>")
    async with staged() as stage:
        trajectory = await stage.play([broken])
    assert (trajectory.stop, len(trajectory.responses)) == (Stop.MALFORMED, LIMITS.max_consecutive_malformed)


async def test_a_failing_policy_is_infrastructure(staged: Any) -> None:
    async with staged() as stage:
        with pytest.raises(PolicyError):
            await stage.play([RUN, PolicyError("500")])
        check_exact(await stage.play([RUN, DONE]))


async def test_a_sandbox_that_dies_ends_the_trajectory_with_all_that_was_sampled(staged: Any) -> None:
    def die(sandbox: FakeSandbox, command: str) -> tuple[int, bytes]:
        sandbox.closed = True
        raise SandboxDead("gone")

    async with staged() as stage:
        trajectory = await stage.play([RUN, DONE], handler=die)
        assert (trajectory.stop, trajectory.error) == (Stop.SANDBOX_DEAD, "gone")
        (response,) = trajectory.responses
        assert response.end == len(trajectory.token_ids)
        assert [call.observation for call in response.tool_calls] == [""]
        check_exact(await stage.play([RUN, DONE]))


async def test_a_killed_process_loses_its_conversations_and_no_others(staged: Any) -> None:
    killed = asyncio.Event()

    async def answer_after_it() -> Any:
        await killed.wait()
        return DONE

    async with staged(conversations=1, workers=2) as stage:
        playing = [asyncio.create_task(stage.play([RUN, answer_after_it])) for _ in range(2)]
        await until(lambda: sum(len(worker.conversations) for worker in stage.pool.workers) == 2)
        os.kill(stage.pool.workers[0].pid, signal.SIGKILL)
        killed.set()
        ended = await asyncio.gather(*playing, return_exceptions=True)
        assert isinstance(ended[0], HarnessError)
        assert "ended with code -9" in str(ended[0])
        assert isinstance(ended[1], Trajectory)
        check_exact(await stage.play([RUN, DONE]))


async def test_a_closed_session_is_infrastructure(staged: Any) -> None:
    async with staged() as stage:
        playing = asyncio.create_task(stage.play([RUN, lambda: asyncio.sleep(60)]))
        await until(lambda: bool(stage.agent.gateway.sessions))
        (session,) = stage.agent.gateway.sessions.values()
        await session.close()
        with pytest.raises(HarnessError, match="session was closed"):
            await playing
        check_exact(await stage.play([RUN, DONE]))


async def test_an_exception_of_the_harness_is_infrastructure(staged: Any) -> None:
    async with staged("messages = [{", "1 / 0; messages = [{") as stage:
        with pytest.raises(HarnessError, match="ZeroDivisionError"):
            await stage.play([DONE])


@pytest.mark.parametrize("end", ["7", "{1, 2}"], ids=["a number", "what is not JSON"])
async def test_an_end_that_means_nothing_is_infrastructure(staged: Any, end: str) -> None:
    async with staged('return "submitted"', f"return {end}") as stage:
        with pytest.raises(HarnessError, match=f"converse returned {end}, none of submitted"):
            await stage.play([DONE])


async def test_an_end_without_a_response_is_infrastructure(staged: Any) -> None:
    async with staged("messages = [{", 'return "submitted"; messages = [{') as stage:
        with pytest.raises(HarnessError, match="without asking the policy"):
            await stage.play([DONE])


async def test_a_harness_that_cannot_be_imported_is_known_at_once(staged: Any) -> None:
    with pytest.raises(UserError, match=r"(?s)does not start.*ModuleNotFoundError"):
        async with staged("import json\n", "import json, nonsense\n"):
            pass


async def test_unknown_options_are_refused(staged: Any) -> None:
    with pytest.raises(UserError, match="no option colour; it has command_timeout_s"):
        async with staged(options={"colour": "red"}):
            pass


async def test_what_a_harness_prints_does_no_harm(staged: Any) -> None:
    async with staged("messages = [{", 'print("{}", flush=True); messages = [{') as stage:
        check_exact(await stage.play([RUN, DONE]))


async def test_nothing_is_left(staged: Any) -> None:
    async with staged(workers=2, conversations=1) as stage:
        await asyncio.gather(stage.play([RUN, DONE]), stage.play([RUN, DONE]))
        pids, scratch = [worker.pid for worker in stage.pool.workers], stage.pool.scratch
    assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not scratch.exists()
    read_harness_spec.cache_clear()
