"""Direct evidence of an infrastructure failure: the engine, the host's memory, and sandboxes that nobody's code was in.

What a program printed is no evidence, and neither is anything else that a policy could cause on purpose. Processes
killed for memory count only where the whole host had none left, not where a control group reached its limit. Of the
neighbours only those count in which no policy had run anything.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from swe_aem.sandbox.kernel_log import KERNEL_LOG, KernelLog

NEIGHBOUR_S = 30.0
"""Losses within so many seconds belong together."""
_STALLED_PERCENT = 10.0
"""Share of the last 10 seconds in which nothing on the host ran for want of memory: pressure above it."""
_KILL = b"oom-kill:constraint="
_SCARCE, _VERY_SCARCE = 0.1, 0.03
"""Available share of the host's memory: below the first, stalls are the host's; below the second it is out of memory
where the kernel does not count stalls."""


@dataclass(frozen=True)
class MemoryMark:
    """The host's memory at a moment, to compare with."""

    kills: int
    """Processes that the kernel was seen to kill because the whole host was out of memory."""


class HostMemory:
    """This host's memory, as the kernel reports it."""

    def __init__(self, proc: Path = Path("/proc"), kernel_log: Path = KERNEL_LOG) -> None:
        self._proc = proc
        self._kills = GlobalKills(kernel_log)

    def mark(self) -> MemoryMark:
        """The state now."""
        return MemoryMark(self._kills.count())

    def trouble(self, since: MemoryMark) -> str | None:
        """Why the host is short of memory, or was since the mark; None if it is not."""
        if killed := self._kills.count() - since.kills:
            return f"the host ran out of memory: processes that the kernel killed: {killed}"
        available, stalled = self._available(), self._stalled()
        if available is None:
            return None
        if stalled is None and available < _VERY_SCARCE:
            return f"the host is out of memory: {available:.1%} is available"
        if stalled is not None and stalled > _STALLED_PERCENT and available < _SCARCE:
            return f"the host is short of memory: {available:.1%} is available, and {stalled:.0f} % of its time is lost"
        return None

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


class GlobalKills:
    """Counts the kills for which the whole host was out of memory, in the log of the kernel.

    /proc/vmstat counts them together with those of control groups that reached their own limit, of this run and of
    others. Where the log cannot be read (it takes root), nothing is counted.
    """

    def __init__(self, kernel_log: Path) -> None:
        self._seen = 0
        self._log = KernelLog(kernel_log)

    def count(self) -> int:
        """Kills since this object was made."""
        for message in self._log.new():
            self._seen += message.startswith(_KILL) and not message.startswith(_KILL + b"CONSTRAINT_MEMCG")
        return self._seen


@dataclass
class InnocentLosses:
    """Sandboxes that were lost although nothing of a policy had run in them, and although their image is sound."""

    clock: Callable[[], float] = time.monotonic
    _lost_s: deque[float] = field(default_factory=lambda: deque(maxlen=1000))

    def note(self, when_s: float) -> None:
        """Such a sandbox was lost then, by `clock`."""
        self._lost_s.append(when_s)

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
