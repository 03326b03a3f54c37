"""Predictions that are graded on the hosts of a cluster, which are lost and drained, in virtual time."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from swe_aem.core import Outcome
from swe_aem.errors import RunAborted
from swe_aem.fleet.agent import NodeAgent
from swe_aem.predictions import GradeRun
from swe_aem.predictions.grading import open_host_grading
from swe_aem.store import GradedPrediction
from swe_aem.testing.engine import FakeEngine, FakeHost
from swe_aem.testing.sandbox import FakeBackend
from swe_aem.testing.virtual_time import run_in_virtual_time
from tests.predictions.conftest import GradeBench, predicted
from tests.rollout.fakes import FakeGrader

PREDICTIONS = predicted(*(f"task-{number}.0" for number in range(12)))
CLUSTER = {"lost_after_s": 20.0, "wait_s": 500.0, "drain_s": 10.0}


@dataclass
class FleetGrading(GradeBench):
    """One grading over fake hosts with two places each."""

    def __post_init__(self) -> None:
        self.scheduling = {"grading": 2, **self.scheduling}
        self.settings = {"cluster": CLUSTER, **self.settings}
        self.engine = FakeEngine(self._agent)
        self.graders: list[FakeGrader] = []
        self.backends: dict[str, FakeBackend] = {}
        self.left: list[str] = []

    def grade_run(self) -> GradeRun:
        return self.made(engine=self.engine)

    async def run_beside(self, after_s: float, what: Callable[[], object]) -> Any:
        asyncio.get_running_loop().call_later(after_s, what)
        return await self.run()

    @property
    def graded(self) -> list[str]:
        """Tasks of all evaluations, in order."""
        return sorted(task for grader in self.graders for task in grader.graded)

    def _agent(self, name: str) -> NodeAgent:
        self.graders.append(replace(self.grader, graded=[]))
        backend = self.backends.setdefault(name, FakeBackend())
        work = partial(open_host_grading, backend=lambda config: backend, grader=cast(Any, self.graders[-1]))
        return NodeAgent(open_work=work, shares_host=False, leave=lambda: self.left.append(name))


def timeless(rows: dict[str, GradedPrediction]) -> dict[str, Any]:
    return {key: row.model_dump(exclude={"wall_s", "cpu_s"}) for key, row in rows.items()}


def test_verdicts_are_those_of_one_host_and_a_rerun_repeats_none(tmp_path: Path) -> None:
    async def main() -> None:
        here = GradeBench(tmp_path / "here", PREDICTIONS)
        await here.run()
        there = FleetGrading(tmp_path / "there", PREDICTIONS, FakeGrader(work_s=10.0))
        there.engine.add("a")
        there.engine.add("b")
        result = await there.run()
        assert result.summary.resolved == 12
        assert timeless(there.rows()) == timeless(here.rows())
        assert all(grader.graded for grader in there.graders)
        once = there.graded
        there.engine.add("c")
        await there.run()
        assert there.graded == once

    run_in_virtual_time(main())


def test_a_lost_host_uses_up_an_attempt_and_a_drained_one_does_not(tmp_path: Path) -> None:
    def drain(host: FakeHost) -> None:
        host.draining = True

    async def main() -> None:
        lost = FleetGrading(tmp_path / "lost", PREDICTIONS, FakeGrader(work_s=10.0))
        host, _ = lost.engine.add("a"), lost.engine.add("b")
        await lost.run_beside(5.0, lambda: lost.engine.lose(host))
        assert [row.resolved for row in lost.rows().values()] == [True] * 12
        assert sum(row.attempt for row in lost.rows().values()) == 2

        drained = FleetGrading(tmp_path / "drained", PREDICTIONS, FakeGrader(work_s=60.0))
        other, _ = drained.engine.add("a"), drained.engine.add("b")
        await drained.run_beside(5.0, lambda: drain(other))
        assert [row.resolved for row in drained.rows().values()] == [True] * 12
        assert sum(row.attempt for row in drained.rows().values()) == 0
        assert not any(backend.live for made in (lost, drained) for backend in made.backends.values())

    run_in_virtual_time(main())


def test_predictions_whose_hosts_are_all_lost_have_no_verdict_until_a_rerun(tmp_path: Path) -> None:
    async def main() -> None:
        made = FleetGrading(tmp_path, predicted("task-0.0"), FakeGrader(work_s=10.0), scheduling={"max_attempts": 2})
        hosts = [made.engine.add(name) for name in "abc"]

        def lose() -> None:
            for host in hosts:
                if host.alive and made.backends[host.name].live:
                    made.engine.lose(host)

        asyncio.get_running_loop().call_later(5.0, lose)
        await made.run_beside(10.0, lose)
        (row,) = made.rows().values()
        assert (row.outcome, row.attempt, row.resolved) == (Outcome.GRADER_FAILURE, 2, None)
        made.engine.add("d")
        await made.run()
        (row,) = made.rows().values()
        assert row.resolved

    run_in_virtual_time(main())


def test_interrupts_are_those_of_one_host(tmp_path: Path) -> None:
    async def main() -> None:
        made = FleetGrading(tmp_path, PREDICTIONS, FakeGrader(work_s=10.0))
        made.engine.add("a")
        run = made.grade_run()
        asyncio.get_running_loop().call_later(5.0, run.stop)
        assert (await run.run()).interrupted
        assert len(made.rows()) == 2

        made.engine.add("b")
        run = made.grade_run()
        asyncio.get_running_loop().call_later(5.0, run.cancel)
        assert (await run.run()).interrupted
        assert len(made.rows()) == 2
        assert not any(backend.live for backend in made.backends.values())

    run_in_virtual_time(main())


def test_without_any_host_for_long_the_run_ends(tmp_path: Path) -> None:
    async def main() -> None:
        made = FleetGrading(tmp_path, PREDICTIONS)
        with pytest.raises(RunAborted, match="no host of the cluster has worked for 500 s"):
            await made.run()

    run_in_virtual_time(main())
