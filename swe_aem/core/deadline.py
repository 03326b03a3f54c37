"""One budget per trajectory; every wait below it takes its timeout from here."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Deadline:
    """A point on the monotonic clock, in seconds.

    A child made with `within` never ends after its parent, whatever is asked for: that is the whole algebra, and the
    property test in `tests/nouns` holds it for random trees.
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

    def remaining_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at_s - self.clock())

    def expired(self) -> bool:
        """True from the deadline on."""
        return self.clock() >= self.at_s
