"""The deadline algebra: no child outlives its parent, on a clock that the test moves."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swe_aem.core import Deadline, bounded
from swe_aem.errors import StartError

seconds = st.floats(min_value=0, max_value=1e6, allow_nan=False)


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@given(budget_s=seconds, steps=st.lists(st.tuples(seconds, seconds), max_size=20))
def test_no_descendant_outlives_its_ancestors(budget_s: float, steps: list[tuple[float, float]]) -> None:
    clock = Clock()
    ancestors = [Deadline.after(budget_s, clock)]
    for wait_s, asked_s in steps:
        clock.now_s += wait_s
        child = ancestors[-1].within(asked_s)
        assert child.at_s <= min(ancestor.at_s for ancestor in ancestors)
        assert child.at_s <= clock.now_s + asked_s
        assert child.remaining_s() <= ancestors[0].remaining_s()
        ancestors.append(child)


@given(budget_s=seconds, wait_s=seconds)
def test_remaining_is_never_negative_and_zero_when_expired(budget_s: float, wait_s: float) -> None:
    clock = Clock()
    deadline = Deadline.after(budget_s, clock)
    clock.now_s += wait_s
    assert deadline.remaining_s() >= 0
    assert deadline.expired() == (deadline.remaining_s() == 0)
    assert deadline.within(1.0).expired() or not deadline.expired()


def test_a_child_gets_what_it_asks_for_when_its_parent_has_more() -> None:
    clock = Clock()
    parent = Deadline.after(100.0, clock)
    clock.now_s = 10.0
    assert parent.within(20.0).at_s == 30.0
    assert parent.within(1000.0).at_s == 100.0


async def test_what_takes_too_long_is_named() -> None:
    with pytest.raises(StartError, match=r"starting took longer than 0\.0 s"):
        async with bounded("starting", Deadline.after(0.01), StartError):
            await asyncio.sleep(10)


async def test_an_expired_deadline_does_not_let_the_body_wait() -> None:
    with pytest.raises(StartError):
        async with bounded("starting", Deadline.after(-1), StartError):
            await asyncio.sleep(10)


async def test_a_timeout_of_the_body_itself_stays_as_it_is() -> None:
    with pytest.raises(TimeoutError, match="somebody else's"):
        async with bounded("working", Deadline.after(10)):
            raise TimeoutError("somebody else's")


async def test_a_bound_stands_with_its_clock() -> None:
    clock = Clock()
    async with bounded("working", Deadline.after(0.01, clock)):
        await asyncio.sleep(0.2)
    deadline = Deadline.after(0.01, clock)
    clock.now_s += 1.0
    with pytest.raises(StartError, match=r"working took longer than 0\.0 s"):
        async with bounded("working", deadline, StartError):
            await asyncio.sleep(60)


async def test_a_bound_that_was_kept_is_over() -> None:
    deadline = Deadline.after(0.05)
    async with bounded("working", deadline):
        pass
    await asyncio.sleep(0.1)
