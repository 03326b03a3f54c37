"""One budget per trajectory; every wait below it takes its timeout from here."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from swe_aem.errors import InfrastructureError

_LOOK_AGAIN_S = 0.05


@dataclass(frozen=True)
class Deadline:
    """A point on a clock, in seconds: the monotonic clock, or one that stands at times.

    A child made with `within` never ends after its parent, whatever is asked for; `tests/core/test_deadline.py` holds
    that for random trees.
    """

    at_s: float
    clock: Callable[[], float] = field(default=time.monotonic, repr=False, compare=False)

    @classmethod
    def after(cls, seconds: float, clock: Callable[[], float] = time.monotonic) -> "Deadline":
        """The deadline `seconds` from now."""
        return cls(clock() + seconds, clock)

    def within(self, seconds: float) -> "Deadline":
        """A deadline at most `seconds` from now that does not outlive this one."""
        return Deadline(min(self.at_s, self.clock() + seconds), self.clock)

    def postponed(self, seconds: float) -> "Deadline":
        """The deadline `seconds` later than this one, for time that does not count."""
        return Deadline(self.at_s + seconds, self.clock)

    def remaining_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at_s - self.clock())

    def expired(self) -> bool:
        """True from the deadline on."""
        return self.clock() >= self.at_s

    def look_again_s(self) -> float:
        """Seconds to wait before the next look whether it has expired. Never 0, for its clock may stand just before."""
        return max(self.remaining_s(), _LOOK_AGAIN_S)


@asynccontextmanager
async def bounded(
    what: str, deadline: Deadline, error: type[InfrastructureError] = InfrastructureError
) -> AsyncIterator[None]:
    """Cancel the body at the deadline and raise `error`, "<what> took longer than N s", in its place."""
    limit_s, loop = deadline.remaining_s(), asyncio.get_running_loop()
    timeout = asyncio.timeout(None)
    later: asyncio.TimerHandle | None = None

    def look() -> None:
        nonlocal later
        if deadline.expired():
            timeout.reschedule(loop.time())
        else:
            later = loop.call_later(deadline.look_again_s(), look)

    try:
        async with timeout:
            look()
            yield
    except TimeoutError as caught:
        if not timeout.expired():
            raise
        raise error(f"{what} took longer than {limit_s:.1f} s") from caught
    finally:
        if later is not None:
            later.cancel()
