"""Tasks that are checked on the hosts of a cluster, which are lost and broken, in virtual time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from swe_aem.core import Deadline, SandboxSpec, TaskRecord, Verdict
from swe_aem.errors import RunAborted
from swe_aem.fleet.agent import NodeAgent
from swe_aem.preflight import CheckConfig, CheckResult, RunCounts, check
from swe_aem.preflight.checking import open_host_checking
from swe_aem.rollout import RolloutConfig
from swe_aem.tasks import LockEntry, TaskSet
from swe_aem.testing.builders import make_record
from swe_aem.testing.engine import FakeEngine
from swe_aem.testing.sandbox import FakeBackend
from swe_aem.testing.virtual_time import run_in_virtual_time
from tests.preflight.test_preflight import GOOD, StandInGrader, StandInSlot

CLUSTER = {"lost_after_s": 20.0, "wait_s": 500.0, "drain_s": 10.0}
TASKS = TaskSet("fakes", tuple(make_record(f"task-{number}") for number in range(8)))


class SlowSlot(StandInSlot):
    async def grade(self, patch: object, deadline: Deadline, *, twins: bool = True) -> Verdict:
        await asyncio.sleep(10.0)
        return await super().grade(patch, deadline, twins=twins)


class SlowGrader(StandInGrader):
    """Every evaluation of a gold patch takes ten seconds, in a sandbox."""

    def __init__(self, backend: FakeBackend) -> None:
        super().__init__([GOOD])
        self.backend = backend

    @asynccontextmanager
    async def slot(self, record: TaskRecord, spec: SandboxSpec) -> AsyncIterator[StandInSlot]:
        async with self.backend.open(spec):
            yield SlowSlot(self, spec.network)


class CheckingFleet:
    """A check over fake hosts, each with two places; a broken host starts no sandbox."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine = FakeEngine(self._agent)
        self.backends: dict[str, FakeBackend] = {}
        self.graders: list[SlowGrader] = []

    def backend(self, name: str) -> FakeBackend:
        return self.backends.setdefault(name, FakeBackend())

    async def check(self, **settings: Any) -> CheckResult:
        rollout = RolloutConfig.model_validate({"cluster": CLUSTER, "scheduling": {"backoff_s": 0.0}})
        config = CheckConfig(**{"rollout": rollout, "counts": RunCounts(gold=1), **settings})
        return await check(config, TASKS, self.path, None, engine=self.engine)

    @property
    def evaluations(self) -> int:
        return sum(grader.grades for grader in self.graders)

    def _agent(self, name: str) -> NodeAgent:
        self.graders.append(SlowGrader(self.backend(name)))
        grader = self.graders[-1]
        work = partial(
            open_host_checking, backend=lambda config: self.backend(name), grader=lambda backend: cast(Any, grader)
        )
        return NodeAgent(open_work=work, shares_host=False, leave=lambda: None)


def timeless(entries: tuple[LockEntry, ...]) -> list[dict[str, Any]]:
    return [one.model_dump(exclude={"boot_s", "test_s", "max_test_s", "checked_on"}) for one in entries]


def test_entries_are_those_of_one_host_and_a_rerun_repeats_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swe_aem.preflight.checking.Grader", SlowGrader)

    async def main() -> None:
        here = await check(CheckConfig(counts=RunCounts(gold=1)), TASKS, tmp_path / "here.lock", FakeBackend())
        there = CheckingFleet(tmp_path / "there.lock")
        there.engine.add("a")
        there.engine.add("b")
        checked = await there.check()
        assert timeless(checked.entries) == timeless(here.entries)
        assert (len(checked.entries), checked.not_checked, checked.earlier) == (8, (), 0)
        assert all(grader.grades for grader in there.graders)
        once = there.evaluations
        there.engine.add("c")
        assert (await there.check()).earlier == 8
        assert there.evaluations == once

    run_in_virtual_time(main())


def test_what_a_lost_host_checked_is_checked_elsewhere(tmp_path: Path) -> None:
    async def main() -> None:
        made = CheckingFleet(tmp_path / "tasks.lock")
        lost, _ = made.engine.add("a"), made.engine.add("b")
        asyncio.get_running_loop().call_later(5.0, made.engine.lose, lost)
        checked = await made.check()
        assert [entry.passed for entry in checked.entries] == [True] * 8
        assert not any(backend.live for backend in made.backends.values())

    run_in_virtual_time(main())


def test_a_broken_host_costs_no_task(tmp_path: Path) -> None:
    async def main() -> None:
        made = CheckingFleet(tmp_path / "tasks.lock")
        made.engine.add("broken")
        made.engine.add("b")
        made.backend("broken").fail_starts = 10**9
        checked = await made.check()
        assert [entry.passed for entry in checked.entries] == [True] * 8

    run_in_virtual_time(main())


def test_what_no_host_could_check_is_named_and_a_rerun_checks_it(tmp_path: Path) -> None:
    async def main() -> None:
        made = CheckingFleet(tmp_path / "tasks.lock")
        made.engine.add("broken")
        made.backend("broken").fail_starts = 10**9
        assert len((await made.check()).not_checked) == 8
        made.engine.add("b")
        assert len((await made.check()).entries) == 8

    run_in_virtual_time(main())


def test_without_any_host_for_long_the_check_ends_and_keeps_what_it_found(tmp_path: Path) -> None:
    async def main() -> None:
        made = CheckingFleet(tmp_path / "tasks.lock")
        only = made.engine.add("a")
        asyncio.get_running_loop().call_later(15.0, made.engine.lose, only)
        with pytest.raises(RunAborted, match="no host of the cluster has worked"):
            await made.check()
        made.engine.add("b")
        assert (await made.check()).earlier == 2

    run_in_virtual_time(main())
