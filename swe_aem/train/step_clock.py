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

_SHORTEST_S = 0.001
"""What is shorter is counted, and not told of."""


class StepClock:
    """Counts the seconds of each phase. At each moment one phase runs: the one that began last of those that have
    not ended, and `other` where there is none. For one thread."""

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        tell: Callable[[str, float, float, int], None] = lambda *_: None,
    ) -> None:
        """`now` gives seconds since any moment, and never falls. `tell` is told of each stretch of time in one phase
        but `other`, and of each whole `step`: its name, when it began, its seconds, and the step that it is part of."""
        self._now, self._tell = now, tell
        self._under_way: list[Phase] = []
        self._seconds: dict[Phase, float] = {}
        self._step = 0
        self._counted_s = self._step_began_s = now()

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

    def start_step(self, number: int) -> None:
        """A step begins, and what was counted so far is part of none."""
        self._count()
        self._seconds.clear()
        self._step, self._step_began_s = number, self._counted_s

    def end_step(self) -> dict[Phase, float]:
        """Seconds of each phase of the step, which add up to its time. The next step begins."""
        self._count()
        seconds = dict(self._seconds)
        self._tell("step", self._step_began_s, self._counted_s - self._step_began_s, self._step)
        self.start_step(self._step + 1)
        return seconds

    def _count(self) -> None:
        """Give the time since the last call of this to the phase that ran."""
        began_s, self._counted_s = self._counted_s, self._now()
        seconds = self._counted_s - began_s
        phase: Phase = self._under_way[-1] if self._under_way else "other"
        self._seconds[phase] = self._seconds.get(phase, 0.0) + seconds
        if phase != "other" and seconds >= _SHORTEST_S:
            self._tell(phase, began_s, seconds, self._step)
