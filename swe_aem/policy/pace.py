"""`Pace`: how many requests may be in flight at an API, and from when on, so that its rate limits are kept.

There is no limit until the API refuses a request for coming too fast. Each refusal halves the number in flight and
holds everything back for as long as the API asks; each answer raises the number again, by one for as many answers as
fit at once. Waiting for the pace is no failure.
"""

import asyncio
import math


class Pace:
    """The pace of all requests of one policy."""

    def __init__(self) -> None:
        self._limit = math.inf
        self._in_flight = 0
        self._closed_until_s = -math.inf
        self._cut_s = -math.inf
        self._answered_s = -math.inf
        self._left = asyncio.Event()
        self._why = ""

    @property
    def limit(self) -> float:
        """Requests that may be in flight; infinite before the first refusal."""
        return self._limit

    @property
    def holding_back(self) -> str | None:
        """Why a request would have to wait now; None if it would not."""
        closed = asyncio.get_running_loop().time() < self._closed_until_s
        return self._why if closed or self._in_flight >= self._limit else None

    async def enter(self) -> float:
        """Wait for the turn of a request; returns the event loop's time at which it may be sent. Call `leave` once it
        is over, whatever came of it."""
        loop = asyncio.get_running_loop()
        while True:
            if (wait_s := self._closed_until_s - loop.time()) > 0:
                await asyncio.sleep(wait_s)
            elif self._in_flight >= self._limit:
                self._left.clear()
                await self._left.wait()
            else:
                self._in_flight += 1
                return loop.time()

    def leave(self) -> None:
        """A request is over."""
        self._in_flight -= 1
        self._left.set()

    def answered(self) -> None:
        """A request was answered."""
        self._limit += 1 / self._limit
        self._answered_s = asyncio.get_running_loop().time()

    def answered_since(self, time_s: float) -> bool:
        """Was any request answered after that time of the event loop?"""
        return self._answered_s > time_s

    def refused(self, sent_s: float, wait_s: float, why: str) -> None:
        """A request that was sent at `sent_s`, and has left, came too fast: hold everything back for `wait_s`. Requests
        that were in flight together are refused together, which counts once."""
        now_s = asyncio.get_running_loop().time()
        if sent_s > self._cut_s:
            self._limit, self._cut_s = max(1.0, (self._in_flight + 1) // 2), now_s
        self._closed_until_s, self._why = max(self._closed_until_s, now_s + wait_s), why
