"""The first page: every run below the directories that were named, with how far each is and what came of it."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from swe_aem.core import Outcome
from swe_aem.errors import UserError
from swe_aem.store.graded import FILE, read_graded
from swe_aem.store.segments import segments
from swe_aem.train.directory import ROLLOUTS
from swe_aem.train.records import METRICS
from swe_aem.view.found import Kind, Run
from swe_aem.view.index import Progress
from swe_aem.view.site import Asked, Shown, Site


class Row(NamedTuple):
    """One run."""

    run: Run
    href: str | None
    """Where its page is, None if it has none."""
    written: str
    """When it was last written, UTC; empty if nothing is there yet."""
    tasks: int
    done: int
    """Trajectories, or verdicts."""
    wanted: int | None
    rate: float | None
    """Share that resolved the task among those that count."""
    outcomes: dict[Outcome, int]
    progress: Progress | None
    """How far its store is indexed, while that is under way."""
    problem: str | None
    """Why its numbers are not there."""


def show(site: Site, asked: Asked) -> Shown:
    """A row per run; the stores of a training run below it."""
    rows = [_row(site, asked, run) for run in site.runs()]
    notes = {note for row in rows if row.run.kind is Kind.ROLLOUTS and (note := site.index(row.run).note)}
    runs = [row.run for row in rows]
    return Shown(
        template="runs.html.jinja",
        title="Runs",
        values={
            "rows": rows,
            "notes": sorted(notes),
            "pairs": runs if len(runs) > 1 else [],
        },
        live=True,
    )


def _row(site: Site, asked: Asked, run: Run) -> Row:
    if run.kind is Kind.GRADES:
        return _graded(asked, run)
    index = site.index(run)
    progress, totals = index.refresh(), index.totals()
    return Row(
        run=run,
        href=asked.link("run", run=run.name),
        written=_when(run),
        tasks=totals.tasks,
        done=totals.trajectories,
        wanted=progress.wanted,
        rate=totals.rate,
        outcomes=totals.outcomes,
        progress=None if progress.complete else progress,
        problem=progress.failure,
    )


def _graded(asked: Asked, run: Run) -> Row:
    problem = None
    try:
        verdicts = read_graded(run.directory)
    except UserError as error:
        verdicts, problem = [], str(error)
    judged = [one.resolved for one in verdicts if one.resolved is not None]
    outcomes = Counter(one.outcome for one in verdicts)
    return Row(
        run=run,
        href=asked.link("run", run=run.name),
        written=_when(run),
        tasks=len({one.instance_id for one in verdicts}),
        done=len(verdicts),
        wanted=None,
        rate=sum(judged) / len(judged) if judged else None,
        outcomes={outcome: outcomes[outcome] for outcome in Outcome if outcome in outcomes},
        progress=None,
        problem=problem,
    )


def _when(run: Run) -> str:
    """When the newest of a run's records was written."""
    store = run.directory / ROLLOUTS if run.kind is Kind.TRAINING else run.directory
    paths: list[Path] = [run.directory / FILE, run.directory / METRICS, *segments(store / "trajectories")[-1:]]
    times = [path.stat().st_mtime for path in paths if path.is_file()]
    return datetime.fromtimestamp(max(times), UTC).strftime("%Y-%m-%d %H:%M") if times else ""
