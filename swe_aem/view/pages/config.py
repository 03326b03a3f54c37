"""The settings of a run: what differs from the defaults, or from another run, what is not built in, and all of them."""

from swe_aem.train.directory import recorded_extensions
from swe_aem.view.found import Kind
from swe_aem.view.settings import Row, beside, settings
from swe_aem.view.site import Asked, Crumb, Shown, Site


def show(site: Site, asked: Asked) -> Shown:
    """The settings against the defaults; against those of another run where the query's `with` names one."""
    run = site.run(asked.values["run"])
    other = site.run(asked.query["with"]) if asked.query.get("with") else None
    mine = settings(run)
    same_kind = [one for one in site.runs(run.kind) if one.name != run.name and one.kind is not Kind.GRADES]
    return Shown(
        template="config.html.jinja",
        title=f"Settings of {run.name}",
        crumbs=(Crumb(run.name, asked.link("run", run=run.name)),),
        values={
            "changed": beside(mine.all, settings(other).all) if other else mine.changed(),
            "other": other,
            "problem": mine.problem,
            "all": [Row(name, (value,)) for name, value in mine.all.items()],
            "others": [(one.name, asked.link("config", query={"with": one.name}, run=run.name)) for one in same_kind],
            "plain": asked.link("config", run=run.name),
            "extensions": recorded_extensions(run.directory) or {} if run.kind is Kind.TRAINING else {},
        },
    )
