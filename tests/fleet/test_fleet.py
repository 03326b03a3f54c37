"""What a fleet makes of hosts that are lost, silent, late, drained or broken, in virtual time."""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from swe_aem.core import Outcome
from swe_aem.errors import RunAborted, UserError
from swe_aem.fleet.figures import FleetFigures
from swe_aem.fleet.messages import Identity
from swe_aem.fleet.node import SUSPECT_AFTER
from swe_aem.fleet.roller import RemoteRoller
from swe_aem.testing.engine import FakeHost
from swe_aem.testing.virtual_time import run_in_virtual_time
from tests.fleet.fakes import FleetBench

Beside = Callable[[RemoteRoller], Awaitable[None]]


def after(seconds: float, what: Callable[[], object]) -> Beside:
    async def beside(_: RemoteRoller) -> None:
        await asyncio.sleep(seconds)
        what()

    return beside


def all_resolved(made: FleetBench) -> list[int]:
    """Failed attempts of each trajectory; all are resolved, once each, and no sandbox is left."""
    stored = made.bench.stored()
    assert len(stored) == made.tasks * made.group_size
    assert {one.outcome for one in stored.values()} == {Outcome.RESOLVED}
    assert {one.reward for one in stored.values()} == {1.0}
    assert made.sandboxes_left == 0
    return [one.attempt for one in stored.values()]


def test_trajectories_run_on_all_hosts_at_once(tmp_path: Path) -> None:
    async def main() -> float:
        made = FleetBench(tmp_path)
        made.host("a")
        made.host("b")
        await made.run()
        assert all_resolved(made) == [0] * 12
        assert all(backend.opened for backend in made.backends.values())
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(main()) < 2 * 5 + 6  # two rounds of eight places; one host alone needs three


def test_what_a_lost_host_ran_is_rolled_out_elsewhere(tmp_path: Path) -> None:
    async def main() -> None:
        made = FleetBench(tmp_path)
        lost, _ = made.host("a"), made.host("b")
        await made.run(after(4.0, lambda: made.engine.lose(lost)))
        assert sum(all_resolved(made)) == 4
        assert made.bench.progress.failed_attempts == 4
        assert "is lost" in made.told

    run_in_virtual_time(main())


def test_figures_tell_what_was_lost_and_which_images_hosts_began_to_use(tmp_path: Path) -> None:
    async def main() -> None:
        made = FleetBench(tmp_path)
        lost, _ = made.host("a"), made.host("b")
        seen: list[FleetFigures] = []

        async def beside(roller: RemoteRoller) -> None:
            await asyncio.sleep(4.0)
            seen.append(roller.fleet.figures)
            made.engine.lose(lost)
            await asyncio.sleep(2.0)
            seen.append(roller.fleet.figures)

        await made.run(beside)
        before, after = seen
        assert before == FleetFigures(hosts=2, images=2)
        assert after == FleetFigures(hosts=1, lost_hosts=1, lost_attempts=4, images=2)
        assert after.since(before) == FleetFigures(hosts=1, lost_hosts=1, lost_attempts=4)

    run_in_virtual_time(main())


def test_a_drained_host_uses_up_no_attempt(tmp_path: Path) -> None:
    def drain(host: FakeHost) -> None:
        host.draining = True

    async def main() -> None:
        made = FleetBench(tmp_path, work_s=30.0, scheduling={"max_attempts": 1})
        drained, _ = made.host("a"), made.host("b")
        await made.run(after(5.0, lambda: drain(drained)))
        assert all_resolved(made) == [0] * 12
        assert "is being drained" in made.told

    run_in_virtual_time(main())


def reach(host: FakeHost, reachable: bool) -> None:
    host.reachable = reachable


def test_a_silent_host_that_answers_in_time_loses_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        made = FleetBench(tmp_path, tasks=2)
        silent, _ = made.host("a"), made.host("b")
        await made.run(after(3.0, lambda: reach(silent, False)), after(15.0, lambda: reach(silent, True)))
        assert all_resolved(made) == [0] * 8
        assert sum(len(backend.opened) for backend in made.backends.values()) == 2 * 8

    run_in_virtual_time(main())


def test_a_host_that_is_silent_for_long_gets_no_hearing_for_what_it_did_and_may_work_again(tmp_path: Path) -> None:
    async def main() -> None:
        made = FleetBench(tmp_path, tasks=16)
        silent, _ = made.host("a"), made.host("b")
        late: list[int] = []

        async def beside(roller: RemoteRoller) -> None:
            await asyncio.sleep(3.0)
            silent.delay_s = 40.0  # its lines are on their way until after it counts as lost
            await asyncio.sleep(3.0)
            silent.reachable = False
            await asyncio.sleep(30.0)
            silent.reachable, silent.delay_s = True, 0.0
            await asyncio.sleep(15.0)
            late.append(roller.fleet.late_lines)

        await made.run(beside)
        assert sum(all_resolved(made)) == 4
        assert late == [4]
        assert "is back" in made.told
        assert "4 lines came late and were dropped" in made.told
        assert made.left == []

    run_in_virtual_time(main())


def test_an_agent_that_hears_nothing_for_long_ends_what_it_runs(tmp_path: Path) -> None:
    async def main() -> None:
        made = FleetBench(tmp_path, work_s=60.0)
        cut_off, _ = made.host("a"), made.host("b")
        open_then: list[int] = []

        async def beside(_: RemoteRoller) -> None:
            await asyncio.sleep(4.0)
            cut_off.reachable = False
            await asyncio.sleep(45.0)
            open_then.append(len(made.backends["a"].live))

        await made.run(beside)
        assert open_then == [0]
        assert made.left == ["a"]
        all_resolved(made)

    run_in_virtual_time(main())


def test_a_host_that_fails_fast_starves_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        made = FleetBench(tmp_path, tasks=12)
        made.host("broken", black_hole=True)
        made.host("a")
        made.host("b")
        await made.run()
        all_resolved(made)
        assert made.bench.progress.failed_attempts < 30

    run_in_virtual_time(main())


@pytest.mark.parametrize("broken", ["a", "b"])
def test_what_a_host_could_not_finish_is_tried_on_another_one_before_it_is_a_suspect(
    tmp_path: Path, broken: str
) -> None:
    """One of the two is the host of the image's hash, so that its first attempts are there."""

    async def main() -> int:
        made = FleetBench(tmp_path, tasks=1, group_size=1, scheduling={"max_attempts": SUSPECT_AFTER - 1})
        made.host(broken, black_hole=True)
        made.host("b" if broken == "a" else "a")
        await made.run()
        return all_resolved(made)[0]

    assert run_in_virtual_time(main()) in (0, SUSPECT_AFTER - 1)


def test_a_host_that_has_been_repaired_works_again(tmp_path: Path) -> None:
    async def main() -> None:
        made = FleetBench(tmp_path, tasks=20)
        made.host("broken", black_hole=True)
        made.host("a")
        await made.run(after(30.0, lambda: setattr(made.backends["broken"], "fail_starts", 0)))
        all_resolved(made)
        assert len(made.backends["broken"].opened) > 8

    run_in_virtual_time(main())


def test_failures_on_all_hosts_end_the_run(tmp_path: Path) -> None:
    async def main() -> None:
        made = FleetBench(tmp_path, tasks=20)
        made.host("a", black_hole=True)
        made.host("b", black_hole=True)
        with pytest.raises(RunAborted, match="attempts in a row to run the agent failed"):
            await made.run()
        assert made.bench.stored() == {}

    run_in_virtual_time(main())


def test_without_any_host_for_long_the_run_ends_and_a_rerun_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        made = FleetBench(tmp_path, tasks=6)
        only = made.host("a")
        with pytest.raises(RunAborted, match=r"no host of the cluster has worked for 500 s"):
            await made.run(after(12.0, lambda: made.engine.lose(only)))
        stored = len(made.bench.stored())
        assert 0 < stored < 24
        made.host("b")
        await made.run()
        all_resolved(made)
        assert len(made.backends["b"].opened) == 2 * (24 - stored)

    run_in_virtual_time(main())


def test_too_few_hosts_for_long_end_the_run(tmp_path: Path) -> None:
    async def main() -> None:
        made = FleetBench(tmp_path, cluster={"min_nodes": 2})
        made.host("a")
        with pytest.raises(RunAborted, match=r"only 1 of 2 hosts \(cluster.min_nodes\) have worked for 500 s"):
            await asyncio.wait_for(made.run(), 1000.0)

    run_in_virtual_time(main())


def test_an_agent_that_counts_as_lost_but_runs_does_not_share_its_host_with_the_next_one(tmp_path: Path) -> None:
    async def main() -> None:
        made = FleetBench(tmp_path, work_s=100.0)
        host = made.host("a")
        open_then: list[int] = []

        async def beside(_: RemoteRoller) -> None:
            await asyncio.sleep(5.0)
            next(iter(host.works)).cancel()  # as Ray says that a call is lost
            await asyncio.sleep(20.0)
            open_then.append(len(made.backends["a"].live))

        await made.run(beside)
        assert open_then == [2 * 4]
        assert len(host.agents) == 2
        all_resolved(made)

    run_in_virtual_time(main())


def test_a_host_whose_disk_is_full_does_not_end_the_run(tmp_path: Path) -> None:
    async def full() -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def main() -> None:
        made = FleetBench(tmp_path)
        made.host("a")
        made.host("b")
        made.backends["a"].answers = full  # type: ignore[method-assign]
        await made.run()
        all_resolved(made)
        assert "could not join: OSError: [Errno 28] No space left on device" in made.told

    run_in_virtual_time(main())


def test_hosts_may_join_while_a_run_lasts_and_again_after_they_were_lost(tmp_path: Path) -> None:
    async def main() -> None:
        made = FleetBench(tmp_path, tasks=10)
        first = made.host("a")
        await made.run(
            after(8.0, lambda: made.host("b")),
            after(14.0, lambda: made.engine.lose(first)),
            after(16.0, lambda: made.host("a")),
        )
        all_resolved(made)

    run_in_virtual_time(main())


def test_hosts_with_other_software_are_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def other(self: object) -> Identity:
        return Identity("0.0.1 (abc)", "3.11.0")

    monkeypatch.setattr("swe_aem.fleet.agent.NodeAgent.identity", other)

    async def main() -> None:
        made = FleetBench(tmp_path)
        made.host("a")
        with pytest.raises(UserError, match=r"host a .*swe-aem 0.0.1 \(abc\) on Python 3.11.0.*install the same"):
            await made.run()

    run_in_virtual_time(main())


def test_a_host_without_an_engine_is_refused_and_others_work(tmp_path: Path) -> None:
    async def main() -> None:
        made = FleetBench(tmp_path)
        made.host("a")
        made.host("b")
        made.backends["a"].down = True
        await made.run()
        assert sum(all_resolved(made)) == 0
        assert "REFUSED: host a (00000001): its fake does not answer: run `swe-aem doctor` there" in made.told

    run_in_virtual_time(main())


def test_a_refused_host_works_once_its_cause_is_removed(tmp_path: Path) -> None:
    async def main() -> None:
        made = FleetBench(tmp_path, tasks=40)
        made.host("a")
        made.host("b")
        made.backends["b"].down = True
        await made.run(after(130.0, lambda: setattr(made.backends["b"], "down", False)))
        all_resolved(made)
        assert made.backends["b"].opened
        assert made.told.count("REFUSED") == 1

    run_in_virtual_time(main())


def test_the_second_interrupt_closes_all_sandboxes(tmp_path: Path) -> None:
    async def main() -> None:
        made = FleetBench(tmp_path, work_s=100.0)
        made.host("a")
        made.host("b")
        async with made.bench.orchestrator(elsewhere=made.elsewhere) as orchestrator:
            running = asyncio.ensure_future(orchestrator.run())
            await asyncio.sleep(10.0)
            assert made.sandboxes_left == 2 * 8
            orchestrator.cancel()
            await running
        assert made.sandboxes_left == 0
        assert made.bench.stored() == {}

    run_in_virtual_time(main())


@pytest.mark.parametrize("lost_after_s", [None, 8.0])
def test_the_first_interrupt_does_not_wait_for_hosts(tmp_path: Path, lost_after_s: float | None) -> None:
    async def main() -> None:
        made = FleetBench(tmp_path)
        loop = asyncio.get_running_loop()
        if lost_after_s is not None:
            loop.call_later(lost_after_s, made.engine.lose, made.host("a"))
        async with made.bench.orchestrator(elsewhere=made.elsewhere) as orchestrator:
            loop.call_later(20.0, orchestrator.stop)
            await orchestrator.run()
        assert orchestrator.interrupted
        assert loop.time() < 60.0
        assert made.sandboxes_left == 0

    run_in_virtual_time(main())
