"""Direct evidence of an infrastructure failure: the engine, the host's memory, and sandboxes that nobody's code was in.

What a program printed is no evidence, and neither is anything else that a policy could have caused on purpose: a host
whose processes were killed for memory counts only where no sandbox of the run explains that, and of the neighbours only
those in which no policy had run anything.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

NEIGHBOUR_S = 30.0
"""Losses within so many seconds belong together."""
_STALLED_PERCENT = 10.0
"""Share of the last 10 seconds in which nothing on the host ran for want of memory: pressure above it."""
_SCARCE, _VERY_SCARCE = 0.1, 0.03
"""Available share of the host's memory: below the first, stalls are the host's; below the second it is out of memory
where the kernel does not count stalls."""


@dataclass(frozen=True)
class MemoryMark:
    """The host's memory at a moment, to compare with."""

    kills: int | None
    """Processes that the kernel has killed for memory since it started; None if it does not say."""
    explained: int
    """Times by then that a sandbox of the run was known to have run out of its own memory."""


class HostMemory:
    """This host's memory, as the kernel reports it."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._explained = 0

    def mark(self) -> MemoryMark:
        """The state now."""
        return MemoryMark(self._kills(), self._explained)

    def explain(self) -> None:
        """A sandbox of the run went beyond its own limit: the kernel counts that among its kills."""
        self._explained += 1

    def trouble(self, since: MemoryMark) -> str | None:
        """Why the host is short of memory, or was since the mark; None if it is not."""
        kills = self._kills()
        if since.kills is not None and kills is not None and self._explained == since.explained and kills > since.kills:
            return f"the host ran out of memory: the kernel killed {kills - since.kills} processes"
        available, stalled = self._available(), self._stalled()
        if available is None:
            return None
        if stalled is None and available < _VERY_SCARCE:
            return f"the host is out of memory: {available:.1%} is available"
        if stalled is not None and stalled > _STALLED_PERCENT and available < _SCARCE:
            return f"the host is short of memory: {available:.1%} is available, and {stalled:.0f} % of its time is lost"
        return None

    def _kills(self) -> int | None:
        return _number(self._read("vmstat"), "oom_kill ")

    def _available(self) -> float | None:
        text = self._read("meminfo")
        total, available = _number(text, "MemTotal:"), _number(text, "MemAvailable:")
        return available / total if total and available is not None else None

    def _stalled(self) -> float | None:
        for line in self._read("pressure/memory").splitlines():
            if line.startswith("full avg10="):
                return float(line.removeprefix("full avg10=").split()[0])
        return None

    def _read(self, name: str) -> str:
        try:
            return (self._proc / name).read_text()
        except OSError:
            return ""


@dataclass
class InnocentLosses:
    """Sandboxes that were lost although nothing of a policy had run in them."""

    clock: Callable[[], float] = time.monotonic
    _lost_s: deque[float] = field(default_factory=lambda: deque(maxlen=1000))

    def note(self) -> None:
        """Such a sandbox was lost just now."""
        self._lost_s.append(self.clock())

    def near(self) -> str | None:
        """What was lost within the last `NEIGHBOUR_S` seconds, in words; None if nothing."""
        since = self.clock() - NEIGHBOUR_S
        lost = sum(when >= since for when in self._lost_s)
        return f"sandboxes beside it were lost within {NEIGHBOUR_S:.0f} s: {lost}" if lost else None


def _number(text: str, name: str) -> int | None:
    """The whole number after a name at the start of a line."""
    for line in text.splitlines():
        if line.startswith(name):
            return int(line.removeprefix(name).split()[0])
    return None
