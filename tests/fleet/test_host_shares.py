"""Agents of several runs on one host: what each has of it."""

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from swe_aem.core import Sandbox, Stop, Task
from swe_aem.core.owner import Owner
from swe_aem.fleet import host_shares
from swe_aem.fleet.agent import NodeAgent
from swe_aem.fleet.host_shares import HostShare, shares_of_this_host, sweep_shares
from swe_aem.fleet.messages import HostSize, Identity, Opening
from swe_aem.fleet.status import look_at_hosts
from swe_aem.rollout import RolloutConfig, RunAborted
from swe_aem.tasks import TaskSet
from swe_aem.testing.engine import FakeEngine
from swe_aem.testing.sandbox import FakeBackend
from swe_aem.testing.virtual_time import run_in_virtual_time
from tests.fleet.fakes import FleetBench
from tests.rollout.fakes import FakeAgent, submit

CARRIES = 8


@pytest.fixture(autouse=True)
def own_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host of this test only."""
    state = tmp_path / "state"
    state.mkdir()
    monkeypatch.setattr(host_shares, "state_dir", lambda: state)
    return state


def opening(name: str) -> Opening:
    """Of another driver each time."""
    return Opening(_no_work, RolloutConfig(), TaskSet("", ()), "", "/", Identity("1", "3"), name=name)  # type: ignore[arg-type]


def _no_work() -> None: ...


def share(name: str, places: int = CARRIES, *, carries: int = CARRIES, fixed: bool = False) -> HostShare:
    """What an agent of a run gets that wants so many places."""
    return HostShare(opening(name), HostSize(1, 1, places, carries, fixed))


def test_who_comes_first_has_what_it_asks_for_and_the_next_one_the_rest() -> None:
    first, second, third = share("a", 5), share("b"), share("c")
    assert [one.places for one in (first, second, third)] == [5, 3, 0]
    assert list(map(str, third.others)) == ["a has 5 of 8 places", "b has 3 of 8 places"]
    assert [str(one) for one in shares_of_this_host()] == [
        "a has 5 of 8 places", "b has 3 of 8 places", "c has 0 of 8 places",
    ]  # fmt: skip
    first.release()
    assert (third.take(), second.take()) == (5, 3)
    second.release()
    assert third.take() == 8


def test_kinds_of_work_of_which_a_host_carries_different_numbers_share_it() -> None:
    assert share("rollout", 64, carries=128, fixed=True).places == 64
    assert share("grade", 32, carries=32).places == 16


def test_what_the_settings_say_is_had_whatever_others_have() -> None:
    assert (share("a").places, share("b", 6, fixed=True).places, share("c").places) == (8, 6, 0)


def test_agents_of_one_run_do_not_wait_for_each_other() -> None:
    """A test, or a benchmark, has several on one machine; so has a host whose agent is started again."""
    of_one, size = opening("a"), HostSize(1, 1, CARRIES, CARRIES, fixed=False)
    assert [HostShare(of_one, size).places for _ in range(2)] == [CARRIES, CARRIES]


def test_a_killed_agent_has_nothing(own_host: Path) -> None:
    code = f"""
from pathlib import Path
from swe_aem.fleet import host_shares
from tests.fleet.test_host_shares import share
host_shares.state_dir = lambda: Path({str(own_host)!r})
share("killed")
print("shares", flush=True)
input()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"shares\n"
        mine = share("mine")
        assert (mine.places, [one.run for one in mine.others]) == (0, ["killed"])
        process.kill()
    assert len(sweep_shares()) == 1
    assert mine.take() == CARRIES
    assert [one.owner for one in shares_of_this_host()] == [Owner.this_process()]
    assert sweep_shares() == []
    mine.release()
    assert not list(own_host.iterdir())


def test_agents_that_come_and_go_at_once_have_no_more_than_the_host_together(
    own_host: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def come_and_go(number: int) -> int:
        most = 0
        for _ in range(25):
            mine = share(f"run-{number}", 3)
            most = max(most, sum(one.places for one in shares_of_this_host()))
            mine.release()
        return most

    with ThreadPoolExecutor(6) as threads:
        assert max(threads.map(come_and_go, range(6))) <= CARRIES
    assert (list(own_host.iterdir()), caplog.messages) == ([], [])


def test_agents_of_another_host_that_has_the_same_directory_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("socket.gethostname", lambda: "elsewhere")
        share("a")
    assert share("b").places == CARRIES
    assert [one.run for one in shares_of_this_host()] == ["b"]


def test_where_nothing_can_be_written_an_agent_has_what_the_host_carries(own_host: Path) -> None:
    (own_host / "agents").write_text("a file in the place of the directory")
    assert share("a").places == CARRIES
    assert shares_of_this_host() == ()


async def test_the_status_of_a_host_names_its_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swe_aem.fleet.host_work.open_backend", lambda _: FakeBackend())
    monkeypatch.setattr("swe_aem.fleet.host_work.node_problem", lambda *_, **__: "")
    engine = FakeEngine(lambda name: NodeAgent())
    engine.add("a")
    carried = RolloutConfig().carried.concurrency
    share("runs/a", 1, carries=4)
    (one,) = await look_at_hosts(engine, RolloutConfig())
    assert (one.places, one.free, one.problem) == (carried, carried * 3 // 4, "")
    assert list(map(str, one.shares)) == ["runs/a has 1 of 4 places"]


def two_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **second: object) -> tuple[FleetBench, FleetBench]:
    """Two drivers, each with an agent on the same host, which carries four trajectories."""
    at_once = RolloutConfig().carried.model_copy(update={"concurrency": 4})
    monkeypatch.setattr(RolloutConfig, "carried", at_once)
    one = FleetBench(tmp_path / "one", shares_host=True, scheduling={"concurrency": None})
    two = FleetBench(tmp_path / "two", shares_host=True, scheduling={"concurrency": None}, cluster=dict(second))
    two.backends = one.backends
    one.host("a")
    two.host("a")
    return one, two


def test_the_second_driver_waits_for_the_first_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        running = [0]

        async def counted(agent: FakeAgent, task: Task, sandbox: Sandbox, sample: int) -> Stop:
            running.append(running[-1] + 1)
            try:
                return await submit(agent, task, sandbox, sample)
            finally:
                running.append(running[-1] - 1)

        one, two = two_runs(tmp_path, monkeypatch)
        one.behaviour = two.behaviour = counted
        first = asyncio.ensure_future(one.run())
        await asyncio.sleep(2.0)
        await asyncio.gather(first, two.run())
        for made in (one, two):
            assert {trajectory.reward for trajectory in made.bench.stored().values()} == {1.0}
            assert len(made.bench.stored()) == 12
        assert max(running) == 4
        assert f"has no place left: {tmp_path}/one (" in two.told
        assert "has 4 of 4 places. It works once some are free" in two.told
        assert "has 4 places now" in two.told
        assert shares_of_this_host() == ()

    run_in_virtual_time(main())


def test_who_waits_for_places_in_vain_ends_with_the_run_that_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        one, two = two_runs(tmp_path, monkeypatch, wait_s=3.0)
        first = asyncio.ensure_future(one.run())
        await asyncio.sleep(2.0)
        with pytest.raises(
            RunAborted, match=r"no host of the cluster has worked for 3 s .* has no place left: .*/one \("
        ):
            await two.run()
        await first

    run_in_virtual_time(main())
