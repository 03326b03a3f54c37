"""Only the line of a live token is stored, also where a line and the loss of its host come at the same moment."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swe_aem.core import TrajectoryKey
from swe_aem.fleet import NodeLost
from swe_aem.fleet.fleet import Fleet
from swe_aem.fleet.messages import Finished, Job, Live
from swe_aem.fleet.node import Attempt
from swe_aem.fleet.roller import RemoteRoller
from swe_aem.rollout.roller import Done
from swe_aem.testing.builders import make_trajectory
from swe_aem.testing.engine import FakeEngine
from swe_aem.testing.virtual_time import run_in_virtual_time
from tests.fleet.fakes import FleetBench


class HeldEngine(FakeEngine):
    """What its agents make of a trajectory arrives when a test says so."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.held: list[asyncio.Future[Finished]] = []

    async def call(self, agent: Any, method: str, *arguments: Any, within_s: float | None = None) -> Any:
        if method != "do":
            return await super().call(agent, method, *arguments, within_s=within_s)
        self.held.append(asyncio.get_running_loop().create_future())
        return await self.held[-1]


def finished(patch: str) -> Finished:
    return Finished(0, Done.of(make_trajectory("task-0", 0, patch=patch)))


@pytest.mark.parametrize("lost_first", [True, False])
@pytest.mark.parametrize("apart", range(8))
def test_a_line_that_comes_with_the_loss_of_its_host_is_stored_or_late_but_not_both(
    tmp_path: Path, apart: int, lost_first: bool
) -> None:
    """`apart`: so many rounds of the event loop lie between the two."""
    seen: list[tuple[Fleet, Attempt]] = []

    async def main() -> FleetBench:
        made = FleetBench(tmp_path, tasks=1, group_size=1, make_engine=HeldEngine)
        made.host("a")
        engine = made.engine
        assert isinstance(engine, HeldEngine)

        async def beside(roller: RemoteRoller) -> None:
            await asyncio.sleep(3.0)
            (node,) = roller.fleet.nodes
            (attempt,) = node.attempts.values()
            seen.append((roller.fleet, attempt))
            what = [lambda: engine.held[0].set_result(finished("first")), lambda: node.end_attempts(NodeLost("gone"))]
            for happens in reversed(what) if lost_first else what:
                happens()
                for _ in range(apart):
                    await asyncio.sleep(0)
            await asyncio.sleep(3.0)
            engine.held[1].set_result(finished("second"))

        await made.run(beside)
        return made

    made = run_in_virtual_time(main())
    fleet, attempt = seen[0]
    lost = attempt.void is not None
    assert lost or not (lost_first or apart == 0)
    assert fleet.late_lines == fleet.lost_attempts == int(lost)
    assert made.bench.stored()["task-0", 0].patch == ("second" if lost else "first")


class CountingEngine(FakeEngine):
    """It notes the token of each job that is sent."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.sent: list[tuple[float, int]] = []

    async def call(self, agent: Any, method: str, *arguments: Any, within_s: float | None = None) -> Any:
        if method == "do":
            self.sent.append((asyncio.get_running_loop().time(), arguments[0].token))
        return await super().call(agent, method, *arguments, within_s=within_s)


def test_a_void_token_is_not_sent_to_its_host_again(tmp_path: Path) -> None:
    async def main() -> None:
        made = FleetBench(tmp_path, tasks=1, group_size=1, work_s=60.0, make_engine=CountingEngine)
        cut_off = made.host("a")
        voided_s: list[float] = []

        async def beside(roller: RemoteRoller) -> None:
            await asyncio.sleep(3.0)
            (node,) = roller.fleet.nodes
            (attempt,) = node.attempts.values()
            made.host("b")
            cut_off.reachable = False
            next(iter(cut_off.works)).cancel()  # the call is broken off, as the loss of a connection does
            await attempt.ended.wait()
            voided_s.append(asyncio.get_running_loop().time())

        await made.run(beside)
        assert isinstance(made.engine, CountingEngine)
        assert [token for at_s, token in made.engine.sent if at_s >= voided_s[0] and token == 1] == []
        assert made.bench.stored()["task-0", 0].attempt == 1

    run_in_virtual_time(main())


class LookingEngine(FakeEngine):
    """It calls `seen` with what each look says is live."""

    seen: Callable[[Live], None]

    async def call(self, agent: Any, method: str, *arguments: Any, within_s: float | None = None) -> Any:
        if method == "look":
            self.seen(arguments[0])
        return await super().call(agent, method, *arguments, within_s=within_s)


def test_no_look_says_that_a_void_token_is_live(tmp_path: Path) -> None:
    """Also not one that is sent in the moment in which the token becomes void."""
    told_void = 0

    async def main() -> None:
        made = FleetBench(tmp_path, tasks=1, group_size=4, work_s=60.0, make_engine=LookingEngine)
        drained = made.host("a")
        fleet: list[Fleet] = []

        def seen(live: Live) -> None:
            nonlocal told_void
            attempts = [attempt for node in fleet[0].nodes for attempt in node.attempts.values()]
            void = {attempt.token for attempt in attempts if attempt.void is not None}
            assert not void & live.tokens
            told_void += bool(void)

        async def beside(roller: RemoteRoller) -> None:
            await asyncio.sleep(3.0)
            fleet.append(roller.fleet)
            assert isinstance(made.engine, LookingEngine)
            made.engine.seen = seen
            made.host("b")
            drained.draining = True

        assert isinstance(made.engine, LookingEngine)
        made.engine.seen = lambda live: None
        await made.run(beside)
        assert [one.attempt for one in made.bench.stored().values()] == [0] * 4

    run_in_virtual_time(main())
    assert told_void


def test_a_place_on_a_host_that_was_lost_meanwhile_is_lost(tmp_path: Path) -> None:
    async def main() -> None:
        made = FleetBench(tmp_path, tasks=1, group_size=1, work_s=20.0)
        host = made.host("a")
        lost: list[str] = []

        async def beside(roller: RemoteRoller) -> None:
            await asyncio.sleep(3.0)
            (record,) = made.bench.records
            place, key = await roller.fleet.place(record), TrajectoryKey("task-0", 9)
            made.engine.lose(host)
            await asyncio.sleep(3.0)
            doing = roller.fleet.do(place, key, lambda token: Job(token, record, 9, (), 60.0))
            with pytest.raises(NodeLost, match="was lost"):
                await asyncio.wait_for(doing, 60.0)
            lost.append(place.node.name)
            made.host("b")

        await made.run(beside)
        assert lost == ["a"]

    run_in_virtual_time(main())
