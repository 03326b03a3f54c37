"""Reports as plain text that fits 80 columns."""

from collections.abc import Iterator, Sequence

from swe_aem.core import TrajectoryKey
from swe_aem.evaluate.compare import Comparison
from swe_aem.evaluate.rates import Estimate
from swe_aem.evaluate.report import RunReport, WeakTasks
from swe_aem.evaluate.score import Remark
from swe_aem.store import broken_task_lines
from swe_aem.table import table

_SHOWN_FLIPS = 10
_SHOWN = 20
"""So many samples are listed of each kind; --json has all."""
_LONGEST_CHARS = 110


def lines(run: RunReport) -> Iterator[str]:
    """One run, line by line."""
    yield f"{run.directory}: {run.trajectories} trajectories, {run.tasks} tasks with a verdict"
    if not run.complete:
        of = f"{run.trajectories} of {run.wanted}" if run.wanted is not None else "an unknown share"
        yield f"  INCOMPLETE: {of} trajectories are there; rates are of what is there"
    for row in run.pass_at:
        short = f"  ({row.left_out} tasks have fewer samples)" if row.left_out else ""
        yield f"  pass@{row.k:<3} {percent(row.estimate)}  over {row.tasks} tasks{short}"
    yield f"  {run.resolved} of {run.samples} samples with a verdict resolved"
    if run.faults or run.tasks_without_verdict:
        yield (
            f"  no verdict for infrastructure failures: {run.faults} trajectories; "
            f"{run.tasks_without_verdict} tasks have none at all"
        )
        yield (
            f"  pass@1 if all that is missing had failed: {run.if_all_missing_failed:.1%}; "
            f"had resolved: {run.if_all_missing_resolved:.1%}"
        )
    yield from (f"  {line}" for line in broken_task_lines(run.broken_tasks))
    yield "  outcomes: " + ", ".join(f"{name} {count}" for name, count in run.outcomes.items())
    yield from _official_lines(run)
    yield from _remark_lines("evidence of cheating", run.evidence)
    yield from _remark_lines("odd in one run of the tests and not in the next", run.odd_once)
    yield from _remark_lines("no verdict", run.failures)
    if run.mean_turns:
        cost = f"{run.sampled_tokens_per_resolved:,.0f}" if run.sampled_tokens_per_resolved is not None else "-"
        yield (
            f"  per sample: {run.mean_turns:.1f} turns, {run.mean_sampled_tokens:,.0f} sampled tokens, "
            f"{run.mean_agent_s:.1f} s of agent; {cost} tokens per resolved"
        )
    yield from table(
        [(row.repo, row.tasks, row.samples, row.resolved, f"{row.pass_at_1:.1%}") for row in run.repos],
        head=("repository", "tasks", "samples", "resolved", "pass@1"),
        align="<>",
        indent=2,
    )
    if run.weak_tasks is not None:
        yield from _weak_task_lines(run.weak_tasks)


def _weak_task_lines(found: WeakTasks) -> Iterator[str]:
    yield f"  tests by the mutants that they let pass, as {found.lock} says"
    for name, tasks, estimate in (
        (f"at most {found.bound:.0%}", found.strong, found.pass_at_1_strong),
        (f"more than {found.bound:.0%} (weak)", len(found.weak), found.pass_at_1_weak),
    ):
        rate = percent(estimate) if estimate is not None else "-"
        yield f"    {name + ':':<22} pass@1 {rate}  over {tasks} tasks"
    if found.unmeasured:
        yield f"    not measured: {found.unmeasured} tasks"


def _official_lines(run: RunReport) -> Iterator[str]:
    """What swebench's rule alone says, and where the verdict says something else."""
    if not run.official_samples:
        return
    yield (
        f"  swebench's rule alone: {run.official_resolved} of {run.official_samples} samples resolved; "
        f"the verdict differs on {len(run.differences)}"
    )
    words = {True: "resolved", False: "unresolved"}
    rows = [
        (TrajectoryKey(one.task_id, one.sample), words[one.resolved], words[one.official_resolved], _short(one.why))
        for one in run.differences[:_SHOWN]
    ]
    yield from table(rows, head=("sample", "verdict", "swebench", "why"), indent=4)
    if len(run.differences) > _SHOWN:
        yield f"    and {len(run.differences) - _SHOWN} more, see --json"


def _remark_lines(what: str, remarks: Sequence[Remark]) -> Iterator[str]:
    for one in remarks[:_SHOWN]:
        yield f"  {what}: {TrajectoryKey(one.task_id, one.sample)}: {_short(one.text)}"
    if len(remarks) > _SHOWN:
        yield f"  {what}: {len(remarks) - _SHOWN} more, see --json"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_CHARS else line[: _LONGEST_CHARS - 3] + "..."


def comparison_lines(found: Comparison, first: str, second: str, notes: Sequence[str]) -> Iterator[str]:
    """Two runs side by side; `notes` are what makes them hard to compare."""
    yield f"{second} minus {first}, {found.tasks} tasks that both have verdicts for"
    yield f"  pass@1: {found.first:.1%} -> {found.second:.1%}"
    yield (
        f"  difference: {100 * found.difference:+.1f} points  "
        f"[{100 * found.low:+.1f}, {100 * found.high:+.1f}]  p = {found.p_value:.4f} (paired bootstrap over tasks)"
    )
    if found.mcnemar_p is not None:
        yield f"  exact McNemar: p = {found.mcnemar_p:.4f}"
    yield f"  better on {len(found.gained)} tasks: {_some(found.gained)}"
    yield f"  worse on {len(found.lost)} tasks: {_some(found.lost)}"
    if found.only_first or found.only_second:
        yield f"  left out: {found.only_first} tasks of the first run alone, {found.only_second} of the second alone"
    for note in notes:
        yield f"  NOTE: {note}"


def percent(estimate: Estimate) -> str:
    """A rate and its 95 % interval."""
    return f"{estimate.value:6.1%}  [{estimate.low:.1%}, {estimate.high:.1%}]"


def _some(ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:_SHOWN_FLIPS])
    return (shown + (f" and {len(ids) - _SHOWN_FLIPS} more" if len(ids) > _SHOWN_FLIPS else "")) or "none"
