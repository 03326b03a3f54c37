"""The seam between the orchestrator and what rolls out: all that crosses it can cross the border of a process."""

import pickle
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from swe_aem.core import Outcome, TaskRecord, Trajectory, TrajectoryKey, Verdict
from swe_aem.errors import ExtensionFailed
from swe_aem.reward import REWARDS
from swe_aem.rollout.breaker import Breaker, FirstAnswer
from swe_aem.rollout.local_roller import LocalRoller
from swe_aem.rollout.roller import Done, Place, RunState, StartingGroup
from swe_aem.rollout.spending import Spending
from swe_aem.store import Store, Totals, count_trajectory
from swe_aem.testing.builders import make_record, make_trajectory
from tests.rollout.fakes import Bench

MakeBench = Callable[..., Any]


class ElsewhereRoller:
    """What goes in and what comes out is made anew from bytes, as between two processes."""

    def __init__(self, roller: LocalRoller) -> None:
        self._roller = roller

    def open(self, run: RunState) -> AbstractAsyncContextManager[None]:
        return self._roller.open(run)

    async def admit(self, record: TaskRecord, count: int) -> None:
        """Groups are started one after the other."""

    async def place(self, record: TaskRecord, group: StartingGroup | None = None) -> Place:
        return await self._roller.place(record, group)

    async def roll(self, record: TaskRecord, sample: int, place: Place) -> Done:
        given = TaskRecord.model_validate_json(record.model_dump_json())
        try:
            return pickle.loads(pickle.dumps(await self._roller.roll(given, sample, place)))
        except Exception as error:
            raise pickle.loads(pickle.dumps(error)) from error.__cause__


def without_times(trajectory: Trajectory) -> Trajectory:
    return trajectory.model_copy(update={"timings_s": {}})


async def test_a_store_is_the_same_whether_trajectories_were_rolled_out_here_or_elsewhere(bench: MakeBench) -> None:
    here, there = bench(2, settings={"group_size": 3}), bench(2, settings={"group_size": 3})
    there.directory = here.directory.with_name("there")
    await here.run()
    async with there.orchestrator(elsewhere=ElsewhereRoller) as orchestrator:
        await orchestrator.run()
    stored, expected = there.stored(), here.stored()
    assert stored.keys() == expected.keys()
    assert all(without_times(stored[key]) == without_times(expected[key]) for key in expected)
    assert there.progress.totals.resolved == 6


def raises(trajectory: Trajectory, verdict: Verdict) -> float:
    raise KeyError("no such field")


async def test_a_trajectory_whose_reward_failed_elsewhere_is_kept(bench: MakeBench) -> None:
    made = bench(1, settings={"reward": REWARDS.add(raises)})
    with pytest.raises(ExtensionFailed, match="Nothing is lost"):
        async with made.orchestrator(elsewhere=ElsewhereRoller) as orchestrator:
            await orchestrator.run()
    kept = list(Store(made.directory / "unrewarded").trajectories())
    assert [(one.key, one.outcome, one.reward) for one in kept] == [(("task-0", 0), Outcome.RESOLVED, None)]


def state(made: Bench) -> RunState:
    return RunState(
        watcher=made.progress,
        agent_breaker=Breaker("run the agent", 100),
        grading_breaker=Breaker("grade a patch", 100),
        first_answer=FirstAnswer(),
        spending=Spending(),
    )


async def rolled(made: Bench, **more: Any) -> Done:
    """One trajectory of a roller without an orchestrator."""
    async with made.orchestrator():
        roller = LocalRoller(made.config(), made.components(), made.backend, made.directory, run="run")
        async with roller.open(state(made)):
            record = make_record("task-0")
            return await roller.roll(record, 0, await roller.place(record), **more)


async def test_attempts_that_failed_elsewhere_use_up_attempts_here(bench: MakeBench) -> None:
    done = await rolled(bench(1), earlier=["agent: NodeLost: node 3"])
    assert (done.counters.outcome, done.counters.attempt, done.counters.reward) == (Outcome.RESOLVED, 1, 1.0)

    made = bench(1)
    made.backend.fail_starts = 100
    done = await rolled(made, earlier=["agent: NodeLost: node 3"])
    assert done.counters.outcome is Outcome.INFRASTRUCTURE
    assert done.counters.attempt == made.config().scheduling.max_attempts - 1
    again = "agent: StartError: the fake was told to fail this start (2 times)"
    assert done.counters.error == f"agent: NodeLost: node 3; {again}"


async def test_a_trajectory_gets_only_the_time_that_attempts_elsewhere_have_left(bench: MakeBench) -> None:
    done = await rolled(bench(1), left_s=0.0)
    assert done.counters.outcome is Outcome.INFRASTRUCTURE
    assert done.counters.attempt == 0


def test_what_is_done_says_of_a_trajectory_what_totals_need() -> None:
    trajectory = make_trajectory("t", 1, outcome=Outcome.TURN_LIMIT)
    done = Done.of(trajectory, b"log")
    assert done.counters.key == TrajectoryKey("t", 1)
    from_counters, from_trajectory = Totals(), Totals()
    from_counters.add_counters(done.counters)
    from_trajectory.add(trajectory)
    assert done.counters == count_trajectory(trajectory)
    told = [
        one.summary(wanted=1, group_size=1, surplus_cancelled=0, wall_s=1.0) for one in (from_counters, from_trajectory)
    ]
    assert told[0] == told[1]
