"""What `swe-aem tasks check` says of the strength of tests."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from swe_aem.table import table

if TYPE_CHECKING:
    from swe_aem.tasks import LockEntry

_WEAKEST = 10
_SURVIVORS = 3


def strength_lines(entries: "Sequence[LockEntry]") -> "Iterator[str]":
    """Shares of mutants that pass, over all tasks, by task, and the weakest tasks; none where nothing was measured."""
    from swe_aem.tasks import WEAK_SHARE

    asked = [entry for entry in entries if entry.mutants is not None]
    if not asked:
        return
    shares = [(share, entry) for entry in asked if (share := entry.passing_share) is not None]
    mutants, passed = sum(entry.mutants or 0 for entry in asked), sum(entry.mutants_passed for entry in asked)
    rate = f" ({passed / mutants:.1%})" if mutants else ""
    yield (
        f"strength: tests let {passed} of {mutants} mutants pass{rate}; {sum(one.mutants_equivalent for one in asked)} "
        f"more are equivalent; {len(asked) - len(shares)} of {len(asked)} tasks have none"
    )
    spread = _spread([share for share, _ in shares], WEAK_SHARE)
    yield from table(spread, head=("mutants that pass", "tasks"), align="<>")
    weakest = sorted((one for one in shares if one[0] > 0), key=lambda one: (-one[0], one[1].task_id))
    rows = [
        (f"{share:.0%}", f"{entry.mutants_passed} of {entry.mutants}", entry.mutants_equivalent, entry.task_id)
        for share, entry in weakest[:_WEAKEST]
    ]
    yield from table(rows, head=("pass", "mutants", "equivalent", "weakest tasks"), align=">>><")
    for _, entry in weakest[:_SURVIVORS]:
        yield from (f"{entry.task_id}: {survivor}" for survivor in entry.survivors[:_SURVIVORS])


def _spread(shares: Sequence[float], weak: float) -> list[tuple[str, str]]:
    """Tasks by the share of mutants that pass."""
    groups = (
        ("none", sum(share == 0 for share in shares)),
        (f"up to {weak:.0%}", sum(0 < share <= weak for share in shares)),
        (f"more than {weak:.0%} (weak)", sum(share > weak for share in shares)),
    )
    return [(name, f"{count} ({count / len(shares):.1%})") for name, count in groups if shares]
