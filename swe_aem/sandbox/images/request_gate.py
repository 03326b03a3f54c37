"""When a registry may be asked again. All pulls from a registry share one gate, so that they pause together."""

import random
import time
from collections.abc import Callable

from swe_aem.core.base import Frozen
from swe_aem.errors import InfrastructureError


class Backoff(Frozen):
    """Waits between requests that failed."""

    first_s: float = 2.0
    """Seconds to wait after an ordinary failure; doubled each time."""
    rate_limit_first_s: float = 30.0
    """Seconds to wait after a rate limit that names no time; doubled each time."""
    longest_s: float = 900.0
    strikes: int = 4
    """Failures to reach a registry in a row after which it is given up."""

    def after(self, strike: int, first_s: float, random_: Callable[[], float] = random.random) -> float:
        """Seconds to wait after the strike of that number (from 1): doubling, of which up to a half is left to chance
        so that many clients do not come back at once."""
        return min(self.longest_s, first_s * 2 ** min(strike - 1, 30)) * (1 - random_() / 2)


class RequestGate:
    """The gate of one registry. Times are of the monotonic clock, in seconds."""

    def __init__(self, backoff: Backoff, clock: Callable[[], float] = time.monotonic) -> None:
        self._backoff = backoff
        self._clock = clock
        self._rate_strikes = 0
        self._lost_strikes = 0
        self._closed_at_s = float("-inf")
        self.opens_at_s = float("-inf")
        self.reason = ""
        """Why the gate is or was closed."""
        self.down: InfrastructureError | None = None
        """The last error, once the registry is given up."""

    @property
    def wait_s(self) -> float:
        """Seconds until the gate opens."""
        return max(0.0, self.opens_at_s - self._clock())

    def answered(self) -> None:
        """Note that the registry answered as it should."""
        self._rate_strikes = self._lost_strikes = 0

    def rate_limited(self, began_s: float, asked_s: float | None) -> None:
        """Note that a request begun at that time hit a rate limit.

        Of a request that was under way when the gate closed, only the wait that the registry asks for counts. That can
        be microseconds (ghcr.io), so the gate stays closed at least as long as after an ordinary failure.
        """
        if began_s >= self._closed_at_s:
            self._rate_strikes += 1
        first_s = self._backoff.rate_limit_first_s if asked_s is None else self._backoff.first_s
        self._close(max(asked_s or 0.0, self._backoff.after(self._rate_strikes, first_s)), "rate limit")

    def unreachable(self, began_s: float, error: InfrastructureError) -> None:
        """Note that a request begun at that time did not reach the registry."""
        if began_s < self._closed_at_s:
            return
        self._lost_strikes += 1
        if self._lost_strikes >= self._backoff.strikes:
            self.down = error
        self._close(self._backoff.after(self._lost_strikes, self._backoff.first_s), "unreachable")

    def _close(self, wait_s: float, reason: str) -> None:
        now_s = self._clock()
        if now_s + wait_s > self.opens_at_s:
            self.opens_at_s = now_s + wait_s
        self._closed_at_s, self.reason = now_s, reason
