"""A whole rollout in this process: summary, resumption, recovery, signals."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

from swe_aem.core import Outcome, Stop
from swe_aem.errors import SandboxDead, UserError
from swe_aem.rollout import RolloutResult, RolloutRun, RunAborted, trajectory_run
from swe_aem.rollout.run import two_step_stop
from swe_aem.store import Store
from swe_aem.tasks import TaskSet
from swe_aem.testing.sandbox import FakeBackend
from tests.rollout.fakes import FakeAgent, submit
from tests.waiting import until

MakeBench = Callable[..., Any]


def open_run(bench: Any) -> RolloutRun:
    tasks, components = TaskSet("fakes", tuple(bench.records)), nullcontext(bench.components())
    return RolloutRun(
        bench.config(),
        tasks,
        Store(bench.directory),
        backend=bench.backend,
        open_components=lambda config, tasks: components,
        line_every_s=0.1,
    )


async def run(bench: Any) -> RolloutResult:
    with open_run(bench) as rollout:
        return await rollout.run(signals=True)


def summary(bench: Any) -> dict[str, Any]:
    return json.loads((bench.directory / "summary.json").read_text())


async def test_the_result_is_the_summary_file(bench: MakeBench) -> None:
    made = bench(3, settings={"group_size": 2})
    finished = await run(made)
    assert not finished.interrupted
    assert finished.failure_rate == 0.0
    assert finished.summary.trajectories == finished.summary.wanted == 6
    assert {**summary(made), "wall_s": 0, "trajectories_per_min": 0} == {
        **finished.summary.model_dump(),
        "wall_s": 0,
        "trajectories_per_min": 0,
    }


async def test_a_resumed_run_has_the_totals_of_all_its_processes(bench: MakeBench) -> None:
    made = bench(2)
    await run(made)
    first = summary(made)
    made.settings = {"group_size": 3}
    second = (await run(made)).summary
    assert (second.trajectories, second.tokens) == (6, 3 * first["tokens"])
    assert second.wall_s > first["wall_s"]
    assert len(made.agent.runs) == 6


async def test_a_rerun_of_finished_work_does_nothing(bench: MakeBench) -> None:
    made = bench(2)
    await run(made)
    opened = len(made.backend.opened)
    assert (await run(made)).summary.trajectories == 2
    assert len(made.backend.opened) == opened


async def test_a_torn_record_is_reported_and_rolled_out_again(
    bench: MakeBench, capsys: pytest.CaptureFixture[str]
) -> None:
    made = bench(2)
    await run(made)
    segment = made.directory / "trajectories" / "part-00000.jsonl"
    segment.write_bytes(segment.read_bytes()[:-10])
    assert (await run(made)).summary.trajectories == 2
    assert "a torn record was moved to" in capsys.readouterr().err
    assert len(made.agent.runs) == 3


async def test_another_run_in_the_directory_is_refused(bench: MakeBench) -> None:
    made = bench(2)
    await run(made)
    made.settings = {"agent": "noop"}
    with pytest.raises(UserError, match='policy was "gold" and is now "noop"'):
        await run(made)


async def test_an_aborted_run_has_a_summary_and_can_be_resumed(bench: MakeBench) -> None:
    made = bench(20, backend=FakeBackend(fail_starts=999))
    with pytest.raises(RunAborted):
        await run(made)
    assert summary(made)["trajectories"] == 0
    made.backend = FakeBackend()
    assert (await run(made)).summary.outcomes == {"resolved": 20}


async def test_infrastructure_failures_are_counted(bench: MakeBench) -> None:
    async def first_task_fails(agent: Any, task: Any, sandbox: Any, sample: int) -> Stop:
        if task.id == "task-0":
            raise SandboxDead("always")
        return await submit(agent, task, sandbox, sample)

    finished = await run(bench(4, agent=FakeAgent(behaviour=first_task_fails)))
    assert finished.failure_rate == 0.25
    assert finished.summary.infrastructure_failures == 1
    assert finished.summary.resolved_rate == 1.0
    assert finished.summary.groups_complete == 3


async def test_a_budget_that_is_used_up_ends_the_trajectory(bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    budgets_s = [20.0, 0.05]
    monkeypatch.setattr(trajectory_run, "trajectory_s", lambda config: budgets_s.pop())
    made = bench(2, agent=FakeAgent(work_s=0.2))
    async with asyncio.timeout(20):
        finished = await run(made)
    assert finished.summary.outcomes == {"infrastructure": 1, "resolved": 1}
    assert made.stored()["task-0", 0].outcome is Outcome.INFRASTRUCTURE
    assert not made.backend.live


async def test_one_signal_drains_and_two_cancel(bench: MakeBench) -> None:
    heard = asyncio.Event()

    async def send(number: signal.Signals, *, times: int) -> None:
        await until(lambda: made.agent.running == 4)
        for _ in range(times):
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.1)
        heard.set()

    async def work(agent: FakeAgent, task: Any, sandbox: Any, sample: int) -> Stop:
        await heard.wait()
        return await submit(agent, task, sandbox, sample)

    made = bench(20, agent=FakeAgent(work))
    _, finished = await asyncio.gather(send(signal.SIGTERM, times=1), run(made))
    assert finished.interrupted
    assert finished.summary.trajectories == 4, "what ran when the signal came"

    made.agent.work_s = 30
    async with asyncio.timeout(20):
        _, finished = await asyncio.gather(send(signal.SIGINT, times=2), run(made))
    assert finished.interrupted
    assert finished.summary.trajectories == 4
    assert not made.backend.live


async def test_signal_handlers_are_gone_after_the_second_signal_and_after_the_body() -> None:
    heard: list[str] = []
    before = signal.getsignal(signal.SIGTERM)
    with two_step_stop(lambda: heard.append("stop"), lambda: heard.append("cancel"), lambda text: None):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.01)
        assert heard == ["stop", "cancel"]
        assert signal.getsignal(signal.SIGTERM) == before
    with two_step_stop(lambda: None, lambda: None, lambda text: None):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


async def test_groups_of_several_epochs_fill_one_open_store(bench: MakeBench) -> None:
    made = bench(2, settings={"group_size": 2})
    with open_run(made) as rollout:
        for epoch in range(2):
            group = rollout.group(made.records[0], epoch)
            assert len(group.missing) == 2
            before_s = summary(made)["wall_s"] if epoch else 0.0
            result = await rollout.run([group])
            assert result.summary.trajectories == result.summary.wanted == 2 * (epoch + 1)
            assert result.summary.wall_s > before_s
            assert [one.sample for one in rollout.load(group)] == [2 * epoch, 2 * epoch + 1]
            assert not rollout.group(made.records[0], epoch).missing
    assert set(made.stored()) == {("task-0", sample) for sample in range(4)}


async def test_a_run_that_was_stopped_before_it_began_starts_nothing(bench: MakeBench) -> None:
    made = bench(2)
    with open_run(made) as rollout:
        rollout.stop()
        result = await rollout.run()
    assert (result.interrupted, result.summary.trajectories, made.agent.runs) == (True, 0, [])


def test_a_backend_that_cannot_be_used_is_refused_before_anything_is_written(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench(1)
    monkeypatch.setenv("PATH", "")
    with (
        pytest.raises(UserError, match="bubblewrap"),
        RolloutRun(made.config(), TaskSet("fakes", ()), Store(made.directory)),
    ):
        pass
    assert not made.directory.exists()


async def test_a_run_outside_of_its_context_says_how_to_open_it(bench: MakeBench) -> None:
    with pytest.raises(RuntimeError, match=r"inside `with RolloutRun"):
        await open_run(bench(1)).run()
