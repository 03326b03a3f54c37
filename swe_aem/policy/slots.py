"""`Slots`: how many requests one server has at once, and a gate that lets nothing through while it is closed.

The limit follows the server's own figures: it grows while all slots are taken and the server queues little, and shrinks
when requests queue there or its KV cache overflows. A request that waits here costs nothing; one that waits there, or
is preempted, makes the server evict the prefixes that the next turns need.
"""

import asyncio
from collections import deque

from swe_aem.core.base import Frozen

LEAST, MOST, FIRST = 4, 4096, 64
_FULL_CACHE = 0.95


class ServerLoad(Frozen):
    """A server's figures at one moment."""

    running: int
    """Requests that it is generating for."""
    waiting: int
    """Requests that it has accepted and not begun."""
    cache_usage: float
    """Share of its KV cache in use, 0..1."""
    preemptions: int = 0
    """Requests that it threw out of the cache since it started."""
    tokens: int = 0
    """Prompt and generated tokens since it started."""


def adapted(limit: int, load: ServerLoad, *, preempted: bool, saturated: bool) -> int:
    """The next limit, between `LEAST` and `MOST`. `preempted`: did the server throw requests out since the last look?
    `saturated`: were all slots taken?"""
    if preempted or (load.cache_usage > _FULL_CACHE and load.waiting):
        limit = limit * 3 // 4
    elif load.waiting > max(4, load.running // 4):
        limit = load.running + max(4, load.running // 4)
    elif saturated and not load.waiting:
        limit += max(4, limit // 2)
    return min(MOST, max(LEAST, limit))


class Slots:
    """First come, first served."""

    def __init__(self) -> None:
        self.limit = FIRST
        self.in_flight = 0
        self._open = True
        self._queue: deque[asyncio.Future[bool]] = deque()
        self._empty: asyncio.Future[None] | None = None

    @property
    def wanted(self) -> float:
        """Requests here or queued for, per slot: what "least loaded" compares."""
        return (self.in_flight + len(self._queue)) / self.limit

    @property
    def saturated(self) -> bool:
        """Are all slots taken?"""
        return self.in_flight >= self.limit

    async def acquire(self) -> bool:
        """Take a slot as soon as there is one; False if the queue was sent away, and nothing was taken."""
        if self._open and not self._queue and self.in_flight < self.limit:
            self.in_flight += 1
            return True
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():
                self.release()
            raise

    def release(self) -> None:
        """Give a slot back."""
        self.in_flight -= 1
        if not self.in_flight and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)
        self._serve()

    def resize(self, limit: int) -> None:
        """Set the limit; slots beyond a lower one are not taken away."""
        self.limit = limit
        self._serve()

    def send_away(self) -> None:
        """Let everybody who queues look elsewhere."""
        while self._queue:
            self._settle(self._queue.popleft(), False)

    def open(self) -> None:
        """Let requests through."""
        self._open = True
        self._serve()

    def close(self) -> None:
        """Let none through until `open`; those that came through go on."""
        self._open = False

    async def drained(self) -> None:
        """Return once no slot is taken; meaningful while closed."""
        if self.in_flight:
            self._empty = asyncio.get_running_loop().create_future()
            await self._empty

    def _serve(self) -> None:
        while self._open and self._queue and self.in_flight < self.limit:
            self.in_flight += self._settle(self._queue.popleft(), True)

    def _settle(self, turn: "asyncio.Future[bool]", value: bool) -> bool:
        """Answer one who waits; False if they are gone."""
        if turn.done():
            return False
        turn.set_result(value)
        return True
