"""What `swe-aem tasks check` says of twins: how many tasks have usable ones, what they cost, and who has none."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swe_aem.tasks import LockEntry

_SHOWN = 20


def twin_lines(entries: "Sequence[LockEntry]") -> "Iterator[str]":
    """The share of tasks with a usable twin, the cost, and the tasks that have none, each with the reason."""
    measured = [entry for entry in entries if entry.twins is not None]
    if not measured:
        return
    have = [entry for entry in measured if entry.twins]
    share = f"{len(have)} of {len(measured)} tasks ({_share(len(have), len(measured))})"
    yield f"twins: {share} have a usable one{_cost(have)}"
    unknown = len(entries) - len(measured)
    if unknown:
        yield f"twins: not measured for {unknown} tasks, whose gold patch fails or whose entry is older (--again)"
    lacking = [entry for entry in measured if not entry.twins]
    for entry in lacking[:_SHOWN]:
        yield f"no twin: {entry.task_id}: {entry.why_no_twin}"
    if len(lacking) > _SHOWN:
        yield f"no twin: {len(lacking) - _SHOWN} more"


def _cost(have: "Sequence[LockEntry]") -> str:
    if not have:
        return ""
    twin_s, test_s = sum(entry.twin_s for entry in have), sum(entry.test_s for entry in have)
    return f"; cost {_share(twin_s, test_s)} of the tests' time ({twin_s / len(have):.2f} s a task)"


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "0%"
