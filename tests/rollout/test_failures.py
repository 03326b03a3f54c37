"""`failures.jsonl` of a run: one line per failed attempt, with phase, cause, traceback and whose failure it was."""

from collections.abc import Callable
from typing import Any

import pytest

from swe_aem.core import Stop
from swe_aem.errors import ExtensionFailed, GraderError, InfrastructureError, PolicyError, RunAborted
from swe_aem.store import read_failures, read_summary
from swe_aem.testing.sandbox import FakeBackend
from tests.rollout.fakes import Bench, FakeAgent, FakeGrader, submit

MakeBench = Callable[..., Bench]


def raising(error: Exception) -> FakeAgent:
    async def fail(agent: Any, task: Any, sandbox: Any, sample: int) -> Stop:
        raise error

    return FakeAgent(behaviour=fail)


async def test_an_attempt_that_was_retried_is_kept(bench: MakeBench) -> None:
    async def once(agent: FakeAgent, task: Any, sandbox: Any, sample: int) -> Stop:
        if len(agent.runs) == 1:
            raise PolicyError("no answer") from OSError("connection reset")
        return await submit(agent, task, sandbox, sample)

    made = bench(1, agent=FakeAgent(behaviour=once))
    await made.run()
    (failed,) = read_failures(made.directory)
    assert (failed.key, failed.attempt, failed.part, failed.phase) == (("task-0", 0), 1, "agent", "agent")
    assert (failed.cause, failed.message, failed.blame) == ("PolicyError", "no answer", "infrastructure")
    assert "OSError: connection reset" in failed.traceback, "the cause of the cause is there too"
    assert made.progress.summary().failed_attempts == 1


async def test_where_nothing_could_be_stored_the_attempts_are_counted(bench: MakeBench) -> None:
    made = bench(1, backend=FakeBackend(fail_starts=10_000))
    with pytest.raises(RunAborted):
        await made.run()
    assert made.stored() == {}
    found = list(read_failures(made.directory))
    assert [(one.phase, one.cause, one.attempt) for one in found] == [("start", "StartError", n) for n in (1, 2, 3)]
    assert made.progress.summary().failed_attempts == 3
    assert read_summary(made.directory) is None


@pytest.mark.parametrize(
    ("error", "blame"), [(ValueError("odd"), "bug"), (ExtensionFailed("agent mine raised"), "extension")]
)
async def test_what_ends_the_run_is_kept_too(bench: MakeBench, error: Exception, blame: str) -> None:
    made = bench(1, agent=raising(error))
    with pytest.raises(type(error)):
        await made.run()
    (failed,) = read_failures(made.directory)
    assert (failed.cause, failed.blame, failed.phase) == (type(error).__name__, blame, "agent")
    assert "in fail" in failed.traceback


async def test_the_attempt_that_aborts_the_run_counts_once(bench: MakeBench) -> None:
    made = bench(1, agent=raising(InfrastructureError("gone")), scheduling={"max_consecutive_failures": 1})
    with pytest.raises(RunAborted):
        await made.run()
    assert [one.cause for one in read_failures(made.directory)] == ["InfrastructureError"]


async def test_grading_is_named(bench: MakeBench) -> None:
    async def fail(*_: Any) -> Any:
        raise GraderError("no log")

    made = bench(1, grader=FakeGrader(grading=fail))
    with pytest.raises(RunAborted):
        await made.run()
    assert {(one.part, one.phase) for one in read_failures(made.directory)} == {("grading", "grade")}
