"""`Starvation`: tells, while it happens, that the host has too few processors for what runs on it."""

import os
import time
from collections import deque
from collections.abc import Callable

SHARE = 0.2
"""Told from this share of the time on."""
_WINDOW_S = 300.0
_ENOUGH_S = 20.0
"""Less time of commands than that says nothing."""
_AGAIN_S = 600.0


class Starvation:
    """Adds up for how long commands in sandboxes ran, and for how much of that others had the processors that they
    could have used (`ExecResult.starved_s`), over the last five minutes."""

    def __init__(self, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        """`tell` is told at once, and then at most every ten minutes."""
        self._tell = tell
        self._clock = clock
        self._ended: deque[tuple[float, float, float]] = deque()
        self._told_s: float | None = None

    def add(self, wall_s: float, starved_s: float) -> None:
        """A command, or an evaluation, has ended."""
        now_s = self._clock()
        self._ended.append((now_s, wall_s, starved_s))
        while self._ended[0][0] < now_s - _WINDOW_S:
            self._ended.popleft()
        if starved_s <= 0 or (self._told_s is not None and now_s < self._told_s + _AGAIN_S):
            return
        wall, starved = (sum(one[column] for one in self._ended) for column in (1, 2))
        if wall >= _ENOUGH_S and starved >= SHARE * wall:
            self._told_s = now_s
            self._tell(
                f"STARVED: commands in sandboxes waited {starved / wall:.0%} of their time for processors that others "
                f"had (load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores). No limit counts that time, so "
                "verdicts stay the same, but all takes longer: run fewer at once (--concurrency, --grading; of "
                "`swe-aem grade` --workers)"
            )
