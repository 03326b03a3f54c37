"""Whatever happens to hosts in whatever order, each trajectory is stored once, and nothing is paid that was lost."""

import asyncio
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from hypothesis import example, given, settings
from hypothesis import strategies as st

from swe_aem.core import Outcome
from swe_aem.errors import RunAborted
from swe_aem.fleet.roller import RemoteRoller
from swe_aem.testing.engine import FakeHost
from swe_aem.testing.virtual_time import run_in_virtual_time
from tests.fleet.fakes import FleetBench


class Step(NamedTuple):
    """Something that happens to one of the hosts that are there then."""

    after_s: float
    what: str
    host: int


Harm = Callable[[FleetBench, FakeHost], object]


def lose(made: FleetBench, host: FakeHost) -> None:
    made.engine.lose(host)


def cut_off(made: FleetBench, host: FakeHost) -> None:
    host.reachable = False


def heal(made: FleetBench, host: FakeHost) -> None:
    host.reachable, host.delay_s = True, 0.0


def slow(made: FleetBench, host: FakeHost) -> None:
    host.delay_s = 7.0


def drain(made: FleetBench, host: FakeHost) -> None:
    host.draining = True


def spoil(made: FleetBench, host: FakeHost) -> None:
    made.backends[host.name].fail_starts = 10**9


def repair(made: FleetBench, host: FakeHost) -> None:
    made.backends[host.name].fail_starts = 0


def join(made: FleetBench, host: FakeHost | None) -> None:
    name = "abcdef"[len(made.backends) % 6]
    if all(other.name != name for other in made.engine.hosts.values()):
        made.host(name)


HARMS: dict[str, Harm] = {harm.__name__: harm for harm in (lose, cut_off, heal, slow, drain, spoil, repair, join)}
steps = st.lists(
    st.builds(Step, st.sampled_from([0.5, 3.0, 7.0, 25.0, 45.0]), st.sampled_from(sorted(HARMS)), st.integers(0, 5)),
    max_size=14,
)


class Watched(NamedTuple):
    """What the rollout's end is compared with."""

    made: FleetBench
    drains_only: bool


async def harm(made: FleetBench, schedule: list[Step], roller: RemoteRoller) -> None:
    """Play a schedule. At its end all hosts are well, and one more joins."""
    for step in schedule:
        await asyncio.sleep(step.after_s)
        hosts = list(made.engine.hosts.values())
        if hosts:
            HARMS[step.what](made, hosts[step.host % len(hosts)])
        elif step.what == "join":
            join(made, None)
        with suppress(RuntimeError):  # the rollout may be over
            assert all(0 <= node.used <= node.places for node in roller.fleet.nodes)
    for host in list(made.engine.hosts.values()):
        heal(made, host)
        repair(made, host)
    made.host(f"last-{len(made.backends)}")


async def rolled_out(directory: Path, schedule: list[Step]) -> Watched:
    made = FleetBench(directory, tasks=6, scheduling={"max_attempts": 3})
    for name in "ab":
        made.host(name)
    drains_only = all(step.what == "drain" for step in schedule)
    for _ in range(4):  # as somebody who repeats the command until it is done
        try:
            await made.run(partial(harm, made, schedule))
        except RunAborted:
            made.host(f"again-{len(made.backends)}")
            schedule = []
            continue
        break
    return Watched(made, drains_only)


@settings(max_examples=20)
@given(steps)
@example([Step(3.0, "drain", 0), Step(3.0, "drain", 1)])
@example([Step(3.0, "cut_off", 0), Step(25.0, "heal", 0), Step(0.5, "lose", 1)])
@example([Step(0.5, "spoil", 0), Step(3.0, "slow", 1), Step(7.0, "cut_off", 1), Step(45.0, "heal", 1)])
@example([Step(0.5, "lose", 0), Step(7.0, "spoil", 0), Step(3.0, "cut_off", 0)])  # ends the run, which begins again
def test_each_trajectory_is_stored_once_and_only_for_work_that_was_not_lost(schedule: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        made, drains_only = run_in_virtual_time(rolled_out(Path(directory), schedule))
        stored = made.bench.stored()  # fails if a key is there twice
        assert len(stored) == 24
        for one in stored.values():
            assert one.outcome in (Outcome.RESOLVED, Outcome.INFRASTRUCTURE)
            assert one.reward == (1.0 if one.outcome is Outcome.RESOLVED else None)
            assert not (drains_only and one.attempt)
        assert made.sandboxes_left == 0
