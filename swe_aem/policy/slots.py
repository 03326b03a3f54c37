"""`Slots`: a limit on the requests that one server has at once, and a gate that holds requests back while it is closed.

The limit follows the server's own figures: it grows while all slots are taken and the server queues little, and shrinks
when requests queue at the server or its KV cache overflows. A request that waits here costs nothing. A request that
waits at the server, or is preempted there, makes the server evict prefixes that the next turns need.
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
    """Requests that it has queued."""
    cache_usage: float
    """Share of its KV cache in use, 0..1."""
    preemptions: int = 0
    """Requests that it has preempted since it started."""
    tokens: int = 0
    """Prompt and generated tokens since it started."""


def adapted(limit: int, load: ServerLoad, *, preempted: bool, saturated: bool) -> int:
    """The next limit, between `LEAST` and `MOST`. `preempted`: has the server preempted requests since the last health
    check? `saturated`: were all slots taken?"""
    if preempted or (load.cache_usage > _FULL_CACHE and load.waiting):
        limit = limit * 3 // 4
    elif load.waiting > max(4, load.running // 4):
        limit = load.running + max(4, load.running // 4)
    elif saturated and not load.waiting:
        limit += max(4, limit // 2)
    return min(MOST, max(LEAST, limit))


class Slots:
    """Slots for requests to one server, given in the order in which requests ask; those that continue a response go
    first."""

    def __init__(self, first: int = FIRST) -> None:
        """`first` is the limit to begin with."""
        self.limit = min(MOST, max(LEAST, first))
        self.in_flight = 0
        self._open = True
        self._continued: deque[asyncio.Future[bool]] = deque()
        self._queue: deque[asyncio.Future[bool]] = deque()
        self._empty: asyncio.Future[None] | None = None

    @property
    def wanted(self) -> float:
        """Requests that hold or wait for a slot, per slot; the least loaded server has the lowest value."""
        return (self.in_flight + len(self._continued) + len(self._queue)) / self.limit

    @property
    def saturated(self) -> bool:
        """Are all slots taken?"""
        return self.in_flight >= self.limit

    async def acquire(self, *, continued: bool = False) -> bool:
        """Take a slot as soon as one is free. A request that continues a response goes before those that begin one.
        False if the waiting requests were told to try another server; then no slot is held."""
        last_in_line = bool(self._continued) or (bool(self._queue) and not continued)
        if self._open and not last_in_line and self.in_flight < self.limit:
            self.in_flight += 1
            return True
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        (self._continued if continued else self._queue).append(turn)
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
        """Tell all waiting requests to try another server."""
        for queue in (self._continued, self._queue):
            while queue:
                self._settle(queue.popleft(), False)

    def open(self) -> None:
        """Let requests through."""
        self._open = True
        self._serve()

    def close(self) -> None:
        """Hold requests back until `open`; those that hold a slot continue."""
        self._open = False

    async def drained(self) -> None:
        """Return once no slot is taken. Use it while the gate is closed."""
        if self.in_flight:
            self._empty = asyncio.get_running_loop().create_future()
            await self._empty

    def _serve(self) -> None:
        for queue in (self._continued, self._queue):
            while self._open and queue and self.in_flight < self.limit:
                self.in_flight += self._settle(queue.popleft(), True)

    def _settle(self, turn: "asyncio.Future[bool]", value: bool) -> bool:
        """Answer a waiting request; False if it was cancelled."""
        if turn.done():
            return False
        turn.set_result(value)
        return True
