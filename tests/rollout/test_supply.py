"""A run whose tasks are brought within reach while it works: when each is asked for, used, and let go."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from swe_aem.core import TaskRecord
from swe_aem.core.trajectory import Stop
from swe_aem.errors import SandboxDead
from swe_aem.rollout.orchestrator import Orchestrator
from tests.rollout.fakes import Bench, FakeAgent
from tests.waiting import until

MakeBench = Callable[..., Bench]


class Supply:
    """Notes what is asked of it; tasks in `missing` cannot be had, those in `never` never come."""

    def __init__(self, missing: tuple[str, ...] = (), never: tuple[str, ...] = ()) -> None:
        self.missing, self.never = missing, never
        self.events: list[tuple[str, str]] = []
        self.asked = asyncio.Event()

    @asynccontextmanager
    async def open(self, tell: Callable[[str], None]) -> AsyncIterator[None]:
        yield

    async def bring(self, record: TaskRecord) -> str | None:
        self.events.append(("bring", record.task.id))
        if record.task.id in self.never:
            self.asked.set()
            await asyncio.Event().wait()
        return "it is not there" if record.task.id in self.missing else None

    def release(self, record: TaskRecord) -> None:
        self.events.append(("release", record.task.id))


async def run(made: Bench, supply: Supply, during: Callable[[Orchestrator], Any] | None = None) -> None:
    async with made.orchestrator(supply=supply) as orchestrator:
        running = asyncio.create_task(orchestrator.run())
        if during is not None:
            await during(orchestrator)
        await running


async def test_a_task_is_brought_before_its_samples_and_let_go_after_the_last(bench: MakeBench) -> None:
    supply = Supply()

    async def work(agent: Any, task: Any, sandbox: Any, sample: int) -> Stop:
        assert ("bring", task.id) in supply.events
        assert ("release", task.id) not in supply.events
        await asyncio.sleep(0.005 * sample)
        return Stop.SUBMITTED

    made = bench(3, agent=FakeAgent(behaviour=work), settings={"group_size": 3}, scheduling={"concurrency": 2})
    await run(made, supply)
    assert len(made.stored()) == 9
    assert sorted(supply.events) == sorted((what, f"task-{n}") for what in ("bring", "release") for n in range(3))


async def test_a_task_that_cannot_be_had_is_left_out(bench: MakeBench) -> None:
    supply, made = Supply(missing=("task-1",)), bench(3)
    await run(made, supply)
    assert {task_id for task_id, _ in made.stored()} == {"task-0", "task-2"}
    assert ("release", "task-1") not in supply.events
    assert made.progress.left_out == {"task-1": "it is not there"}


async def test_a_failed_trajectory_lets_its_task_go_at_once(bench: MakeBench) -> None:
    """Its record waits for a sign that the infrastructure works; the next task must not wait for that record."""
    supply = Supply()

    async def work(agent: Any, task: Any, sandbox: Any, sample: int) -> Stop:
        if task.id == "task-0":
            raise SandboxDead("by chance")
        await until(lambda: ("release", "task-0") in supply.events)
        return Stop.SUBMITTED

    made = bench(2, agent=FakeAgent(behaviour=work), scheduling={"concurrency": 2, "max_attempts": 1})
    async with asyncio.timeout(30):
        await run(made, supply)
    assert len(made.stored()) == 2


@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_a_run_that_is_ended_waits_for_no_task(bench: MakeBench, how: str) -> None:
    supply, made = Supply(never=("task-1",)), bench(3)

    async def end(orchestrator: Orchestrator) -> None:
        await supply.asked.wait()
        getattr(orchestrator, how)()

    async with asyncio.timeout(30):
        await run(made, supply, end)
    assert ("bring", "task-2") not in supply.events
