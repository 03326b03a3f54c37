"""Two runs: training runs by their curves, others task by task, with the tasks that changed."""

from swe_aem.errors import UserError
from swe_aem.evaluate import caveats, compare, comparison_lines
from swe_aem.view.found import Kind, Run
from swe_aem.view.index import Filter, Order
from swe_aem.view.listed import Listed
from swe_aem.view.pages import compare_training
from swe_aem.view.pages.evaluation import evaluated
from swe_aem.view.site import Asked, Crumb, NotThere, Shown, Site


def show(site: Site, asked: Asked) -> Shown:
    """The runs that the query names as `a` and `b`. Of a training run and a store, the rollouts are compared."""
    if not asked.query.get("a") or not asked.query.get("b"):
        raise NotThere("name two runs in the address: /compare-runs?a=RUN&b=RUN")
    first, second = site.run(asked.query["a"]), site.run(asked.query["b"])
    if first.kind is second.kind is Kind.TRAINING:
        return compare_training.show(site, asked, first, second)
    notes: list[str] = []
    (one, scores, whole), (other, others, too) = (evaluated(site, run, notes.append) for run in (first, second))
    if (found := compare(scores, others)) is None:
        raise UserError(f"{first.name} and {second.name} share no task that both have a verdict for")
    text = "\n".join(comparison_lines(found, first.name, second.name, [*caveats(one, other), *notes]))
    changed = [
        (what, [(task, _href(asked, first, task), _href(asked, second, task)) for task in tasks])
        for what, tasks in (("worse", found.lost), ("better", found.gained))
    ]
    return Shown(
        template="compare_runs.html.jinja",
        title=f"{second.name} against {first.name}",
        crumbs=tuple(Crumb(run.name, asked.link("run", run=run.name)) for run in (first, second)),
        values={"text": text, "changed": changed, "first": first.name, "second": second.name},
        live=not (whole and too),
    )


def _href(asked: Asked, run: Run, task: str) -> str:
    if run.kind is Kind.GRADES:
        return asked.link("run", run=run.name)
    query = Listed(filter=Filter(tasks=(task,)), order=Order(by="task", descending=False)).query()
    return asked.link("trajectories", query=query, run=run.name)
