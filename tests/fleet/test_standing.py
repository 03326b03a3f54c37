"""Agents that outlast single rollouts."""

import asyncio
from pathlib import Path

import pytest

from swe_aem.core import Outcome
from swe_aem.errors import RunAborted
from swe_aem.testing.virtual_time import run_in_virtual_time
from tests.fleet.in_memory import in_memory
from tests.fleet.test_weights import TrainingBench


def test_two_rollouts_at_a_time_share_the_places_of_agents_that_stay(tmp_path: Path) -> None:
    async def main() -> None:
        made = TrainingBench(tmp_path / "steps", tasks=3, group_size=4)
        beside = TrainingBench(tmp_path / "evaluation", tasks=2, group_size=2)
        made.host("a")
        made.host("b")
        async with made.opened(in_flight="interrupt") as fleet:
            for _ in range(2):  # the second time nothing is missing
                async with (
                    made.bench.orchestrator(elsewhere=made.rolled_out_on(fleet)) as steps,
                    beside.bench.orchestrator(elsewhere=beside.rolled_out_on(fleet)) as evaluation,
                ):
                    await asyncio.gather(steps.run(), evaluation.run())
            assert [node.used for node in fleet.fleet.nodes] == [0, 0]
        for one, count in ((made, 12), (beside, 4)):
            stored = one.bench.stored()
            assert len(stored) == count
            assert {each.outcome for each in stored.values()} == {Outcome.RESOLVED}
        assert all(len(host.agents) == 1 for host in made.engine.hosts.values())

    with in_memory():
        run_in_virtual_time(main())


def test_no_host_at_the_start_ends_it(tmp_path: Path) -> None:
    async def main() -> None:
        made = TrainingBench(tmp_path, cluster={"wait_s": 100.0})
        with pytest.raises(RunAborted, match="no host of the cluster has worked for 100 s"):
            async with made.opened(in_flight="drain"):
                """It is never open."""

    with in_memory():
        run_in_virtual_time(main())


def test_no_host_ends_what_waits_for_one_and_nothing_else(tmp_path: Path) -> None:
    async def main() -> None:
        made = TrainingBench(tmp_path, cluster={"wait_s": 100.0})
        host = made.host("a")
        async with made.opened(in_flight="drain") as fleet:
            made.engine.lose(host)
            await asyncio.sleep(1000.0)
            async with made.bench.orchestrator(elsewhere=made.rolled_out_on(fleet)) as orchestrator:
                with pytest.raises(RunAborted, match="no host of the cluster has worked for 100 s") as raised:
                    await orchestrator.run()
            assert "\n" not in str(raised.value)

    with in_memory():
        run_in_virtual_time(main())
