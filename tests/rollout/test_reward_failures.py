"""A reward function that fails: what was rolled out stays, the run ends with the function's exception, and a rerun
pays what was kept."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from swe_aem.core import Outcome, Stop, Task, Trajectory, Verdict
from swe_aem.errors import ExtensionFailed, UserError
from swe_aem.extensions import _module_of_file
from swe_aem.reward import REWARDS, Rewards
from swe_aem.rollout import RolloutComponents, RolloutConfig, RolloutRun
from swe_aem.rollout.unrewarded import FOLDER, pay_unrewarded
from swe_aem.store import Store
from swe_aem.tasks import TaskSet
from swe_aem.testing.sandbox import FakeSandbox
from tests.rollout.fakes import FakeAgent, submit
from tests.waiting import until

MakeBench = Callable[..., Any]


class Judge:
    """A reward function that fails for some samples while it is broken."""

    def __init__(self) -> None:
        self.broken: set[int] = set()
        self.asked: list[int] = []

    def __call__(self, trajectory: Trajectory, verdict: Verdict) -> float:
        self.asked.append(trajectory.sample)
        if trajectory.sample in self.broken:
            raise KeyError("no such field")
        return 0.25


JUDGE = Judge()


def judged(trajectory: Trajectory, verdict: Verdict) -> float:
    return JUDGE(trajectory, verdict)


@pytest.fixture
def reward(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(f"{__name__}.JUDGE", Judge())
    return REWARDS.add(judged)


def kept(directory: Path) -> set[tuple[str, int]]:
    return {(one.task_id, one.sample) for one in Store(directory / FOLDER).trajectories()}


async def test_the_run_ends_and_every_trajectory_stays(bench: MakeBench, reward: str) -> None:
    """What was running finishes and is kept too: hours of rollouts are not thrown away for a typo in five lines."""
    made = bench(3, settings={"reward": reward}, scheduling={"concurrency": 1})
    JUDGE.broken = {0}

    async def behaviour(agent: FakeAgent, task: Task, sandbox: Any, sample: int) -> Stop:
        if task.id == "task-1":
            await until(lambda: made.progress.news)
        return await submit(agent, task, sandbox, sample)

    made.agent.behaviour = behaviour
    with pytest.raises(
        ExtensionFailed, match=r"task-0\.0 raised KeyError: 'no such field'\. Nothing is lost"
    ) as caught:
        await made.run()
    assert isinstance(caught.value.__cause__, KeyError)
    assert made.agent.runs == [("task-0", 0), ("task-1", 0)]
    assert made.stored() == {}
    assert kept(made.directory) == {("task-0", 0), ("task-1", 0)}
    unpaid = next(iter(Store(made.directory / FOLDER).trajectories()))
    assert (unpaid.outcome, unpaid.reward) == (Outcome.RESOLVED, None)
    assert unpaid.verdict is not None


async def test_a_rerun_pays_what_was_kept_and_rolls_out_the_rest(bench: MakeBench, reward: str) -> None:
    made = bench(2, settings={"group_size": 2, "reward": reward}, scheduling={"concurrency": 1})
    JUDGE.broken = {0}
    with pytest.raises(ExtensionFailed):
        await made.run()
    unpaid, first_runs = kept(made.directory), list(made.agent.runs)
    assert ("task-0", 0) in unpaid
    JUDGE.broken = set()
    with Store(made.directory).writer() as writer:
        assert pay_unrewarded(writer, Rewards(reward)) == len(unpaid)
        assert pay_unrewarded(writer, Rewards(reward)) == 0
    assert not (made.directory / FOLDER).exists()
    stored = await made.run()
    assert {one.reward for one in stored.values()} == {0.25}
    assert set(stored) == {(f"task-{n}", sample) for n in range(2) for sample in range(2)}
    assert sorted(made.agent.runs) == sorted(stored), "each was rolled out once"
    assert made.agent.runs[: len(first_runs)] == first_runs


async def test_paying_that_fails_again_or_was_killed_continues_where_it_was(bench: MakeBench, reward: str) -> None:
    made = bench(3, settings={"reward": reward})
    JUDGE.broken = {0}
    with pytest.raises(ExtensionFailed):
        await made.run()
    everything = kept(made.directory)
    with Store(made.directory).writer() as writer:
        with pytest.raises(ExtensionFailed):
            pay_unrewarded(writer, Rewards(reward))
        assert kept(made.directory) == everything
        first = next(iter(Store(made.directory / FOLDER).trajectories()))
        writer.append(first.model_copy(update={"reward": 0.5}))  # paid by a process that was killed before the next
        JUDGE.broken = set()
        assert pay_unrewarded(writer, Rewards(reward)) == len(everything)
    rewards = {(one.task_id, one.sample): one.reward for one in Store(made.directory).trajectories()}
    assert rewards == {key: 0.5 if key == first.key else 0.25 for key in everything}


async def test_an_infrastructure_failure_is_never_handed_to_it(bench: MakeBench, reward: str) -> None:
    made = bench(1, settings={"reward": reward})

    async def grading(grader: Any, record: Any, patch: Any, sandbox: FakeSandbox) -> Verdict:
        return Verdict(resolved=True, patch_applied=True, integrity=("conftest.py: hooks the test run",))

    made.grader.grading = grading
    stored = await made.run()
    assert {(one.outcome, one.reward) for one in stored.values()} == {(Outcome.INTEGRITY_VIOLATION, 0.0)}
    assert JUDGE.asked == []


FIRST = "def paid(trajectory, verdict):\n    return verdict.no_such_field\n"
FIXED = "def paid(trajectory, verdict):\n    return 0.5\n"


@pytest.mark.parametrize("group_size", [1, 2])
async def test_a_fixed_function_pays_only_where_nothing_was_paid_by_another(
    group_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bench: MakeBench
) -> None:
    """Rewards of two versions of a function are never mixed in one store."""
    monkeypatch.chdir(tmp_path)
    made = bench(1)
    tasks = TaskSet("fakes", tuple(made.records))

    def rollout(**settings: Any) -> RolloutRun:
        config = RolloutConfig(**{"tasks": "fakes", "reward": "own.py:paid", "group_size": group_size, **settings})

        @asynccontextmanager
        async def components(config: RolloutConfig, tasks: TaskSet) -> AsyncIterator[RolloutComponents]:
            yield made.components()

        return RolloutRun(config, tasks, Store(tmp_path / "store"), backend=made.backend, open_components=components)

    def write(text: str) -> None:
        Path("own.py").write_text(text)
        sys.modules.pop(_module_of_file(Path("own.py"), "own").__name__)  # what another process would read

    write(FIRST if group_size == 1 else FIXED)
    with rollout() as run:
        if group_size == 1:
            with pytest.raises(ExtensionFailed, match="no_such_field"):
                await run.run()
        else:
            await run.run()
    write(FIXED if group_size == 1 else FIRST)
    with pytest.raises(UserError, match=r"time_limit_s was 1800\.0 and is now 9"):
        rollout(time_limit_s=9).__enter__()
    if group_size == 1:
        with rollout() as run:
            result = await run.run()
        assert [one.reward for one in result.trajectories()] == [0.5]
    else:
        said = r"reward was the code of sha256:\w+ and is now the code of sha256:\w+.*`swe-aem recompute-rewards "
        with pytest.raises(UserError, match=said):
            rollout().__enter__()
