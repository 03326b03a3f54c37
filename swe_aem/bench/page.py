"""`BenchPage`: what a run says about its policy, as one page of text and one of HTML.

The number comes first, with its interval, and beside it what swebench's own rule makes of the same logs.
"""

from collections.abc import Iterator
from pathlib import Path

from swe_aem.core import Trajectory, TrajectoryKey
from swe_aem.core.base import Frozen
from swe_aem.core.outcomes import in_baseline, is_resolved
from swe_aem.evaluate import Estimate, RunReport, clustered, evaluate_directory, lines
from swe_aem.rollout.display import money
from swe_aem.store import Store, read_summary, replace
from swe_aem.table import table
from swe_aem.view.export import write_shown
from swe_aem.view.html import readable
from swe_aem.view.site import Shown

TEXT, HTML = "report.txt", "report.html"
_WORDS = {True: "resolved", False: "unresolved", None: "-"}


class SampleRow(Frozen):
    """One trajectory."""

    task_id: str
    sample: int
    outcome: str
    resolved: bool | None
    """The verdict; None where there is none."""
    official: bool | None
    """What swebench's parser and rule alone say; None where they say nothing."""
    turns: int
    tokens: int
    """Tokens that the policy sampled."""
    agent_s: float
    note: str
    """Why there is no verdict, or what a person should know of it."""


class BenchPage(Frozen):
    """Everything that the page shows."""

    model: str
    agent: str
    tasks: str
    """The task set, with its split."""
    report: RunReport
    own: Estimate | None
    """pass@1 by the verdicts; None without one."""
    official: Estimate | None
    """The same by swebench's rule alone."""
    rows: tuple[SampleRow, ...]
    left_out: dict[str, str]
    """Tasks that were not run, by id, each with the reason."""
    billed_tokens: int
    """Prompt and sampled tokens of all requests, those of lost attempts included."""
    cost_usd: float | None
    """What all requests cost; None where that is not known."""
    notes: tuple[str, ...]


def read_page(directory: Path, *, model: str) -> BenchPage | None:
    """The page of a store; None if the store has no trajectory yet."""
    rows = tuple(sorted(map(_row, Store(directory).trajectories()), key=lambda row: (row.task_id, row.sample)))
    if not rows:
        return None
    notes: list[str] = []
    report, scores = evaluate_directory(directory, tell=notes.append)
    config, summary = report.config, read_summary(directory)
    return BenchPage(
        model=model,
        agent=config.agent_name if config else "",
        tasks=f"{config.tasks}, split {config.split}" if config and config.split else config.tasks if config else "",
        report=report,
        own=clustered([task.rate for task in scores.judged], scores.samples) if scores.judged else None,
        official=_official(rows),
        rows=rows,
        left_out=summary.left_out if summary is not None else {},
        billed_tokens=summary.billed_tokens if summary is not None else 0,
        cost_usd=summary.cost_usd if summary is not None else None,
        notes=tuple(notes),
    )


def write_pages(page: BenchPage, directory: Path) -> None:
    """Write both files."""
    replace(directory / TEXT, readable("\n".join(text_lines(page)) + "\n"))
    values = {
        "page": page,
        "sentence": number(page),
        "facts": list(facts(page)),
        "details": "\n".join(lines(page.report)),
        "words": _WORDS,
        "key": TrajectoryKey,
    }
    write_shown(Shown(template="bench.html.jinja", title=title(page), values=values), directory / HTML)


def title(page: BenchPage) -> str:
    """What was evaluated."""
    return f"{page.model} on {page.tasks}"


def number(page: BenchPage) -> str:
    """The result, in one sentence."""
    if page.own is None:
        return "No task has a verdict yet."
    run = page.report
    state = "" if run.complete else f" So far: {run.trajectories} of {run.wanted} trajectories."
    return f"pass@1 {_rate(page.own)}: {run.resolved} of {run.samples} samples of {run.tasks} tasks resolved.{state}"


def facts(page: BenchPage) -> Iterator[tuple[str, str]]:
    """(what, value) of the numbers beside the result."""
    run = page.report
    yield "pass@1, verdicts", _rate(page.own) if page.own else "-"
    yield "pass@1, swebench's rule alone", _rate(page.official) if page.official else "-"
    if run.faults or run.tasks_without_verdict:
        low, high = run.if_all_missing_failed, run.if_all_missing_resolved
        yield "pass@1, whatever is missing", f"between {low:.1%} and {high:.1%}"
    yield "agent", page.agent
    yield "tokens sampled", f"{sum(row.tokens for row in page.rows):,}"
    yield "tokens billed, prompts included", f"{page.billed_tokens:,}"
    if page.cost_usd is not None:
        per = f", {money(page.cost_usd / run.resolved)} per resolved sample" if run.resolved else ""
        yield "cost", f"{money(page.cost_usd)}{per}"
    if run.mean_turns is not None and run.mean_agent_s is not None:
        yield "per sample", f"{run.mean_turns:.1f} turns, {run.mean_agent_s:.0f} s of agent"


def text_lines(page: BenchPage) -> Iterator[str]:
    """The page as plain text."""
    yield title(page)
    yield number(page)
    yield ""
    yield from table(list(facts(page)), indent=2)
    for task_id, why in page.left_out.items():
        yield f"  LEFT OUT: {task_id}: {why}"
    for note in page.notes:
        yield f"  NOTE: {note}"
    yield ""
    yield from lines(page.report)
    yield ""
    shown = [
        (
            TrajectoryKey(row.task_id, row.sample),
            _WORDS[row.resolved],
            _WORDS[row.official],
            row.outcome,
            row.turns,
            f"{row.tokens:,}",
            f"{row.agent_s:.0f}",
        )
        for row in page.rows
    ]
    yield from table(
        shown,
        head=("sample", "verdict", "swebench", "outcome", "turns", "tokens", "agent s"),
        align="<<<<>>>",
        indent=2,
    )


def _row(trajectory: Trajectory) -> SampleRow:
    assert trajectory.outcome is not None  # a store takes nothing else
    counts, verdict = in_baseline(trajectory), trajectory.verdict
    used = [response.used for response in trajectory.all_responses]
    official = verdict.official_resolved if verdict is not None else None
    if counts and not trajectory.patch.strip():
        official = False  # nothing to apply: swebench's harness counts it as unresolved without running tests
    return SampleRow(
        task_id=trajectory.task_id,
        sample=trajectory.sample,
        outcome=trajectory.outcome.value,
        resolved=is_resolved(trajectory) if counts else None,
        official=official,
        turns=len(trajectory.responses),
        tokens=sum(one.completion_tokens for one in used),
        agent_s=trajectory.timings_s.get("agent", 0.0),
        note=trajectory.error or next(iter(verdict.integrity if verdict is not None else ()), ""),
    )


def _official(rows: tuple[SampleRow, ...]) -> Estimate | None:
    """pass@1 by swebench's rule alone, over the tasks of which it says something."""
    tasks: dict[str, list[bool]] = {}
    for row in rows:
        if row.official is not None:
            tasks.setdefault(row.task_id, []).append(row.official)
    if not tasks:
        return None
    return clustered([sum(said) / len(said) for said in tasks.values()], sum(map(len, tasks.values())))


def _rate(estimate: Estimate) -> str:
    return f"{estimate.value:.1%} (95 % interval {estimate.low:.1%} to {estimate.high:.1%})"
