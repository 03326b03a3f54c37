"""What a person reads of a run that ended without all of its trajectories."""

from collections.abc import Iterator, Mapping

from swe_aem.rollout.config import BudgetConfig
from swe_aem.rollout.display import money
from swe_aem.store import Summary

_SHOWN = 20
"""Tasks that are named; `summary.json` has all."""


def left_out_lines(left_out: Mapping[str, str]) -> Iterator[str]:
    """Each task that was left out, with the reason, and what to do."""
    for task_id, why in list(left_out.items())[:_SHOWN]:
        yield f"LEFT OUT: {task_id}: {why}"
    if (more := len(left_out) - _SHOWN) > 0:
        yield f"and {more} more tasks, which summary.json names"
    if left_out:
        yield "fix the causes and repeat the command: tasks that were left out are tried again"


def spent_line(budget: BudgetConfig, summary: Summary) -> str:
    """What was used of a budget, and how to resume."""
    used = []
    if budget.tokens is not None:
        used.append(f"{summary.billed_tokens:,} of {budget.tokens:,} tokens")
    if budget.usd is not None:
        used.append(f"{money(summary.cost_usd or 0.0)} of {money(budget.usd)}")
    missing = summary.wanted - summary.trajectories
    return (
        f"the budget has no room for another trajectory ({' and '.join(used)} are used, and the rest is less than one "
        f"has needed); {missing} are missing: repeat the command with a larger budget to resume"
    )
