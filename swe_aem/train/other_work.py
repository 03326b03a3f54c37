"""`OtherWork`: tells at the start of a training that the host's processors are taken. Importable without torch."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

_SHARE = 0.5
"""Told from this share of the processors on."""
_ENOUGH_S = 0.2
"""A shorter time says nothing: processor time is counted in hundredths of a second."""


class Moment(NamedTuple):
    """Seconds up to a moment: of a clock, of the work of all processors, and of this process's part of that."""

    clock_s: float
    busy_s: float
    own_s: float


def now() -> Moment:
    """This moment. What a hypervisor gave to other machines is work of others, too."""
    fields = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0].split()
    user, nice, system, _, _, irq, softirq, steal = (int(one) for one in fields[1:9])
    busy_s = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return Moment(time.monotonic(), busy_s, sum(os.times()[:4]))


class OtherWork:
    """What others had of the processors since this was made, while this process had no child that still runs."""

    def __init__(self, read: Callable[[], Moment] = now, cores: int | None = None) -> None:
        """`read` gives the moment; `cores` are those of the host, by default as many as it has."""
        self._read, self._cores = read, cores or os.cpu_count() or 1
        self._began = read()

    def note(self) -> str | None:
        """A line for people where others had at least half of the processors; None otherwise."""
        end = self._read()
        seconds = end.clock_s - self._began.clock_s
        if seconds < _ENOUGH_S:
            return None
        theirs = (end.busy_s - self._began.busy_s - (end.own_s - self._began.own_s)) / seconds
        if theirs < _SHARE * self._cores:
            return None
        return (
            f"STARVED: while this began, other work had {min(theirs, self._cores):.1f} of the {self._cores} "
            f"processors of this host (load {os.getloadavg()[0]:.0f}). What is learnt stays the same, but all takes "
            "longer than the docs say"
        )
