"""What `swe-aem eval` says of a store, or of verdicts: rates with intervals, and each task."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from swe_aem.errors import UserError
from swe_aem.evaluate import RunReport, Scores, TaskScore, evaluate_directory, lines
from swe_aem.store import is_graded_directory
from swe_aem.train.directory import ROLLOUTS
from swe_aem.view.beside import comparisons
from swe_aem.view.found import Kind, Run
from swe_aem.view.index import Filter, Order
from swe_aem.view.listed import Listed
from swe_aem.view.pages.runlog import logs_of
from swe_aem.view.site import Asked, Crumb, Shown, Site

SMALL_BYTES = 30_000_000
"""A store up to this size is read where it is not indexed yet."""


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
    return show_run(site, asked, run)


def show_run(site: Site, asked: Asked, run: Run) -> Shown:
    """The evaluation of a run; raises `UserError` for a store that is empty."""
    notes: list[str] = []
    report, scores, whole = evaluated(site, run, notes.append)
    return Shown(
        template="evaluation.html.jinja",
        title=f"Evaluation of {run.name}",
        crumbs=() if run.kind is Kind.GRADES else (Crumb(run.name, asked.link("run", run=run.name)),),
        live=not (whole and report.complete),
        values={
            "report": report,
            "notes": notes,
            "text": "\n".join(lines(report)),
            "rows": [_row(asked, run, report, task) for task in scores.tasks],
            "links": [] if asked.links.alone else list(_links(asked, run)),
            "others": comparisons(site, asked, run),
        },
    )


def evaluated(site: Site, run: Run, tell: Callable[[str], None]) -> tuple[RunReport, Scores, bool]:
    """Report and scores of a run, from its index as far as there is one; and whether everything is in them. `tell` is
    told what is not. Raises `UserError` where there is nothing yet."""
    store = run.directory / ROLLOUTS if run.kind is Kind.TRAINING else run.directory
    if run.kind is Kind.GRADES or is_graded_directory(store):
        return *evaluate_directory(store, tell=tell), True
    index = site.index(run)
    progress = index.refresh()
    if not progress.complete and progress.bytes_total <= SMALL_BYTES:
        return *evaluate_directory(store, tell=tell), True
    scores = index.scores()
    if not progress.complete:
        tell(f"{run.name} is being indexed: {progress.bytes_done / progress.bytes_total:.0%} of it is in these numbers")
    if progress.damaged:
        tell(f"{progress.damaged} rows of {run.name} cannot be read and are left out")
    if not scores.outcomes:
        raise UserError(f"{store} holds no trajectories yet, or none is indexed yet: look again in a few seconds")
    return *evaluate_directory(store, tell=tell, scores=scores), progress.complete


def _links(asked: Asked, run: Run) -> Iterator[tuple[str, str]]:
    """Further pages about verdicts; those about a store are on the page of the store."""
    if run.kind is Kind.GRADES:
        yield "Failed attempts", asked.link("failures", run=run.name)
        if logs_of(run):
            yield "Log", asked.link("runlog", run=run.name)


def _row(asked: Asked, run: Run, report: RunReport, task: TaskScore) -> Row:
    weak = report.weak_tasks is not None and task.task_id in report.weak_tasks.weak
    href = None
    if run.kind is not Kind.GRADES:
        query = Listed(filter=Filter(tasks=(task.task_id,)), order=Order(by="task", descending=False)).query()
        href = asked.link("trajectories", query=query, run=run.name)
    return Row(task, href, "weak tests" if weak else "")
