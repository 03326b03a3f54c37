"""A host with too few processors is told of while it is so."""

from collections.abc import Callable
from typing import Any

import pytest

from swe_aem.rollout.starvation import Starvation
from tests.rollout.fakes import Bench, FakeGrader, resolve


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_it_is_told_at_once_and_then_at_most_every_ten_minutes() -> None:
    told: list[str] = []
    clock = Clock()
    starvation = Starvation(told.append, clock)
    starvation.add(19.0, 19.0)  # too little to say anything
    assert told == []
    starvation.add(19.0, 0.0)
    starvation.add(2.0, 1.0)
    assert "waited 50% of their time for processors that others had" in told[0]
    assert "--concurrency" in told[0]
    for _ in range(10):
        clock.now_s += 59.0
        starvation.add(60.0, 30.0)
    assert len(told) == 1
    clock.now_s += 59.0
    starvation.add(60.0, 30.0)
    assert len(told) == 2


@pytest.mark.parametrize(("wall_s", "starved_s"), [(100.0, 0.0), (100.0, 19.0)])
def test_a_host_that_is_only_busy_is_not_complained_of(wall_s: float, starved_s: float) -> None:
    told: list[str] = []
    starvation = Starvation(told.append)
    for _ in range(10):
        starvation.add(wall_s, starved_s)
    assert told == []


def test_what_was_long_ago_is_forgotten() -> None:
    told: list[str] = []
    clock = Clock()
    starvation = Starvation(told.append, clock)
    starvation.add(19.0, 19.0)
    clock.now_s += 301.0
    starvation.add(100.0, 1.0)
    assert told == []


async def test_a_rollout_tells_of_it(bench: Callable[..., Bench]) -> None:
    async def starved(*given: Any) -> Any:
        verdict = await resolve(*given)
        return verdict.model_copy(update={"eval_s": 30.0, "starved_s": 15.0})

    made = bench(3, grader=FakeGrader(grading=starved))
    await made.run()
    assert sum("STARVED" in line for line in made.progress.news) == 1
