"""Waiting and measuring that a busy machine does not spoil."""

import asyncio
import resource
import time
from collections.abc import Callable


async def until(happened: Callable[[], object], limit_s: float = 60.0) -> None:
    """Return once `happened()` is true; it is looked at every few milliseconds."""
    end_s = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < end_s, f"it did not happen within {limit_s:.0f} s"
        await asyncio.sleep(0.005)


def cpu_s() -> float:
    """CPU seconds of ended child processes: what the wall clock shows on an idle machine, whatever else runs here."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
