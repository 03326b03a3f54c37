"""`StepClock`: divides the time of the process that trains into phases, so that no second is counted twice.

A step lasts from the line of `metrics.jsonl` before it to its own. What comes first, such as the checkpoint of the step
before, is of that step too, so the steps together are the time of training.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

Phase = Literal["rollout_wait", "weights", "scoring", "optimising", "evaluation", "checkpoint", "other"]
"""What the process that trains does at a moment. `StepMetrics` has a field for each, and says what it is."""


class StepClock:
    """Counts the seconds of each phase. At each moment one phase goes on: the one that began last of those that have
    not ended, and `other` where there is none. For one thread."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """`now` gives seconds since any moment, and never falls."""
        self._now = now
        self._under_way: list[Phase] = []
        self._seconds: dict[Phase, float] = {}
        self._counted_s = now()

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Count the time of the body as `name`, however it ends, except for phases inside of it."""
        self.begin(name)
        try:
            yield
        finally:
            self.end()

    def begin(self, name: Phase) -> None:
        """A phase begins; `end` ends it."""
        self._count()
        self._under_way.append(name)

    def end(self) -> None:
        """The phase that began last ends."""
        self._count()
        self._under_way.pop()

    def lap(self) -> dict[Phase, float]:
        """Seconds of each phase since the last call, or since this was made. They add up to the time since then."""
        self._count()
        seconds, self._seconds = self._seconds, {}
        return seconds

    def _count(self) -> None:
        """Give the time since the last call of this to the phase that went on."""
        now = self._now()
        phase: Phase = self._under_way[-1] if self._under_way else "other"
        self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._counted_s
        self._counted_s = now
