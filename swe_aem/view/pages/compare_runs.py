"""Two runs: training runs by their curves, others task by task, with the tasks that changed."""

from typing import NamedTuple

from swe_aem.errors import UserError
from swe_aem.evaluate import caveats, compare, comparison_lines
from swe_aem.view.found import Kind, Run
from swe_aem.view.index import Filter, Order
from swe_aem.view.listed import Listed
from swe_aem.view.pages.compare_training import show as show_training
from swe_aem.view.pages.evaluation import evaluated
from swe_aem.view.site import Asked, Crumb, NotThere, Shown, Site

MOST_PAIRS = 200
"""Tasks that got worse, and as many that got better, with a link to two trajectories."""
_IN_ORDER = Order(by="task", descending=False)


class Changed(NamedTuple):
    """A task that one run resolves more often."""

    task: str
    first: str
    """Address of its trajectories in the first run."""
    second: str
    beside: str
    """Address of one of each, side by side; empty without one."""


def show(site: Site, asked: Asked) -> Shown:
    """The runs that the query names as `a` and `b`. Of a training run and a store, the rollouts are compared."""
    if not asked.query.get("a") or not asked.query.get("b"):
        raise NotThere("name two runs in the address: /compare-runs?a=RUN&b=RUN")
    first, second = site.run(asked.query["a"]), site.run(asked.query["b"])
    if first.kind is second.kind is Kind.TRAINING:
        return show_training(site, asked, first, second)
    notes: list[str] = []
    (one, scores, whole), (other, others, too) = (evaluated(site, run, notes.append) for run in (first, second))
    if (found := compare(scores, others)) is None:
        raise UserError(f"{first.name} and {second.name} share no task that both have a verdict for")
    text = "\n".join(comparison_lines(found, first.name, second.name, [*caveats(one, other), *notes]))
    changed = [
        (what, [Changed(task, *_hrefs(site, asked, (first, second), task, n)) for n, task in enumerate(tasks)])
        for what, tasks in (("worse", found.lost), ("better", found.gained))
    ]
    return Shown(
        template="compare_runs.html.jinja",
        title=f"{second.name} against {first.name}",
        crumbs=tuple(Crumb(run.name, asked.link("run", run=run.name)) for run in (first, second)),
        values={"text": text, "changed": changed, "first": first.name, "second": second.name},
        live=not (whole and too),
    )


def _hrefs(site: Site, asked: Asked, runs: tuple[Run, Run], task: str, number: int) -> tuple[str, str, str]:
    first, second = (_href(asked, run, task) for run in runs)
    return first, second, _beside(site, asked, runs, task) if number < MOST_PAIRS else ""


def _beside(site: Site, asked: Asked, runs: tuple[Run, Run], task: str) -> str:
    """The address of two trajectories of a task that do not end alike, side by side; empty where there are none, or
    none is indexed yet."""
    if Kind.GRADES in (runs[0].kind, runs[1].kind) or asked.links.exported:
        return ""
    only = Filter(tasks=(task,))
    sides = [[one for one in site.index(run).page(only, _IN_ORDER).rows if one.counts] for run in runs]
    pairs = ((a, b) for a in sides[0] for b in sides[1] if a.resolved != b.resolved)
    if (pair := next(pairs, None)) is None:
        return ""
    names = [f"{run.name}/{one.task_id}/{one.sample}" for run, one in zip(runs, pair, strict=True)]
    return asked.link("compare", query={"a": names[0], "b": names[1]})


def _href(asked: Asked, run: Run, task: str) -> str:
    if run.kind is Kind.GRADES:
        return asked.link("run", run=run.name)
    query = Listed(filter=Filter(tasks=(task,)), order=_IN_ORDER).query()
    return asked.link("trajectories", query=query, run=run.name)
