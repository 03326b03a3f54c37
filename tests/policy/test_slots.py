"""How many requests a server has at once."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swe_aem.policy.slots import LEAST, MOST, ServerLoad, Slots, adapted

loads = st.builds(ServerLoad, running=st.integers(0, 5000), waiting=st.integers(0, 5000), cache_usage=st.floats(0, 1))


@given(st.integers(LEAST, MOST), loads, st.booleans(), st.booleans())
def test_limits_stay_in_bounds(limit, load, preempted, saturated):
    assert LEAST <= adapted(limit, load, preempted=preempted, saturated=saturated) <= MOST


@given(st.integers(LEAST, MOST), st.integers(0, 100))
def test_a_server_that_keeps_up_gets_more_and_one_that_preempts_less(limit, running):
    well = ServerLoad(running=running, waiting=0, cache_usage=0.5)
    assert adapted(limit, well, preempted=False, saturated=True) >= min(limit + 1, MOST)
    assert adapted(limit, well, preempted=False, saturated=False) == limit
    assert adapted(limit, well, preempted=True, saturated=True) <= max(LEAST, limit - 1)


@pytest.mark.parametrize("capacity", [8, 40, 300])
def test_the_limit_settles_at_what_a_server_runs(capacity):
    """A server that runs `capacity` requests and queues the rest ends with a queue of at most a quarter."""
    limit = 64
    for _ in range(30):
        load = ServerLoad(running=min(limit, capacity), waiting=max(0, limit - capacity), cache_usage=0.5)
        limit = adapted(limit, load, preempted=False, saturated=True)
    assert capacity <= limit <= capacity + max(capacity // 2, 8) + 4


async def test_first_come_first_served():
    slots = Slots()
    slots.resize(2)
    order = []

    async def use(number):
        assert await slots.acquire()
        order.append(number)
        await asyncio.sleep(0)
        slots.release()

    await asyncio.gather(*(use(number) for number in range(10)))
    assert order == list(range(10))
    assert slots.in_flight == 0


async def test_a_closed_gate_drains_and_lets_nothing_through():
    slots = Slots()
    assert await slots.acquire()
    slots.close()
    waiting = asyncio.create_task(slots.acquire())
    drained = asyncio.create_task(slots.drained())
    await asyncio.sleep(0)
    assert not drained.done()
    slots.release()
    await drained
    assert not waiting.done()
    slots.open()
    assert await waiting


async def test_nobody_takes_a_slot_and_leaves_with_it():
    """Cancelled while queueing, and cancelled in the moment in which the slot was given."""
    slots = Slots()
    slots.resize(1)
    assert await slots.acquire()
    waiting = [asyncio.create_task(slots.acquire()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    slots.release()
    waiting[1].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert waiting[2].result() is True
    assert slots.in_flight == 1


async def test_what_was_begun_is_continued_before_anything_else_begins():
    slots = Slots()
    slots.resize(1)
    assert await slots.acquire()
    order = []

    async def take(name, *, continued):
        assert await slots.acquire(continued=continued)
        order.append(name)
        slots.release()

    asking = [("new", False), ("older", True), ("newer", True)]
    waiting = [asyncio.create_task(take(name, continued=continued)) for name, continued in asking]
    await asyncio.sleep(0)
    assert slots.wanted == 4
    slots.release()
    await asyncio.gather(*waiting)
    assert order == ["older", "newer", "new"]


async def test_those_who_queue_can_be_sent_away():
    slots = Slots()
    slots.resize(1)
    assert await slots.acquire()
    waiting = [asyncio.create_task(slots.acquire(continued=continued)) for continued in (False, True)]
    await asyncio.sleep(0)
    slots.send_away()
    assert await asyncio.gather(*waiting) == [False, False]
    assert slots.in_flight == 1
