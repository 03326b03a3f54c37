"""What `swe-aem eval` says of a store, or of verdicts: rates with intervals, and each task."""

from pathlib import Path
from typing import NamedTuple

from swe_aem.errors import UserError
from swe_aem.evaluate import RunReport, TaskScore, evaluate_directory, lines
from swe_aem.store.segments import segments
from swe_aem.train.directory import ROLLOUTS
from swe_aem.view.found import Kind, Run
from swe_aem.view.index import Filter, Order
from swe_aem.view.listed import Listed
from swe_aem.view.site import Asked, Crumb, Shown, Site

MOST_BYTES = 300_000_000
"""An evaluation reads the whole store, which takes too long for a page beyond this."""


class Row(NamedTuple):
    """One task."""

    task: TaskScore
    href: str | None
    """Its trajectories; None where there are none."""
    strength: str
    """`weak` where its tests let too many mutants pass."""


def show(site: Site, asked: Asked) -> Shown:
    """The evaluation of the run that the path names."""
    run = site.run(asked.values["run"])
    return show_run(asked, run)


def show_run(asked: Asked, run: Run) -> Shown:
    """The evaluation of a run; raises `UserError` for a store that is empty or too large."""
    store = store_of(run)
    require_small(store)
    notes: list[str] = []
    report, scores = evaluate_directory(store, tell=notes.append)
    return Shown(
        template="evaluation.html.jinja",
        title=f"Evaluation of {run.name}",
        crumbs=() if run.kind is Kind.GRADES else (Crumb(run.name, asked.link("run", run=run.name)),),
        live=not report.complete,
        values={
            "report": report,
            "notes": notes,
            "text": "\n".join(lines(report)),
            "rows": [_row(asked, run, report, task) for task in scores.tasks],
        },
    )


def store_of(run: Run) -> Path:
    """The directory that is evaluated."""
    return run.directory / ROLLOUTS if run.kind is Kind.TRAINING else run.directory


def require_small(store: Path) -> None:
    """Raises `UserError` for a store that takes too long to read for a page."""
    if (size := sum(path.stat().st_size for path in segments(store / "trajectories"))) > MOST_BYTES:
        raise UserError(
            f"{store} holds {size / 1e9:.1f} GB, which takes too long to read for a page: call swe-aem eval {store}"
        )


def _row(asked: Asked, run: Run, report: RunReport, task: TaskScore) -> Row:
    weak = report.weak_tasks is not None and task.task_id in report.weak_tasks.weak
    href = None
    if run.kind is not Kind.GRADES:
        query = Listed(filter=Filter(tasks=(task.task_id,)), order=Order(by="task", descending=False)).query()
        href = asked.link("trajectories", query=query, run=run.name)
    return Row(task, href, "weak tests" if weak else "")
