"""A group starts on one host, which alone needs its image, and no host idles for that."""

import asyncio
from pathlib import Path

import pytest

from swe_aem.testing.engine import FakeHost
from swe_aem.testing.virtual_time import run_in_virtual_time
from tests.fleet.fakes import FleetBench
from tests.fleet.spread import FreeForAll, Spread


@pytest.mark.parametrize(
    ("groups", "group_size", "places", "sigma"),
    [
        (64, 4, 4, 1.0),
        pytest.param(192, 16, 32, 0.7, marks=pytest.mark.nightly),
        pytest.param(512, 8, 16, 1.2, marks=pytest.mark.nightly),
    ],
)
def test_full_hosts_need_few_more_images_than_an_even_split_has_and_idle_no_more(
    tmp_path: Path, groups: int, group_size: int, places: int, sigma: float
) -> None:
    together = Spread(tmp_path / "together", 16, groups, group_size, places, sigma).run()
    apart = Spread(tmp_path / "apart", 16, groups, group_size, places, sigma, roller=FreeForAll).run()
    for one in (together, apart):
        print(f"{one.images_to_ideal:.2f} of the ideal, idle {one.idle_share:.4f}, {one.taken_s:.0f} s")
    assert together.images_to_ideal <= 1.2 < apart.images_to_ideal
    assert together.idle_share <= 0.001
    assert together.taken_s <= apart.taken_s / 0.97


def lose(made: Spread, host: FakeHost) -> None:
    made.engine.lose(host)


def drain(made: Spread, host: FakeHost) -> None:
    host.draining = True


def cut_off(made: Spread, host: FakeHost) -> None:
    host.reachable = False


@pytest.mark.parametrize("harm", [lose, drain, cut_off])
def test_what_a_lost_host_ran_stays_together(tmp_path: Path, harm: object) -> None:
    moved: set[str] = set()

    async def beside(made: Spread) -> None:
        await asyncio.sleep(700.0)
        host = next(iter(made.engine.hosts.values()))
        moved.update(image for (name, image), count in made.running.items() if name == host.name and count)
        harm(made, host)  # type: ignore[operator]

    made = Spread(tmp_path, 4, 24, 8, 16, beside=beside).run()
    hosts = [sum(image in had for name, had in made.images.items() if name != "host-0") for image in moved]
    assert len(hosts) >= 3
    assert sum(hosts) <= 1.5 * len(hosts), "on one other host, or two"


def test_what_is_left_of_groups_stays_together_when_a_run_is_resumed(tmp_path: Path) -> None:
    async def beside(made: Spread) -> None:
        await asyncio.sleep(900.0)
        made.orchestrator.cancel()

    first = Spread(tmp_path, 4, 24, 8, 8, beside=beside).run()
    assert first.orchestrator.interrupted
    rerun = Spread(tmp_path, 4, 24, 8, 8).run()
    assert len({image for had in rerun.images.values() for image in had}) >= 20
    assert rerun.images_to_ideal <= 1.2
    assert rerun.idle_share <= 0.001


def test_a_group_that_is_the_last_one_uses_all_hosts(tmp_path: Path) -> None:
    async def main() -> None:
        made = FleetBench(tmp_path, tasks=1, group_size=8, work_s=20.0)
        made.host("a")
        made.host("b")
        await made.run()
        agents = [[one.spec.labels["role"] for one in backend.opened] for backend in made.backends.values()]
        assert [roles.count("agent") for roles in agents] == [4, 4]

    run_in_virtual_time(main())
