"""Two training runs: held-out rates, seconds, the settings that differ, and their curves over each other."""

from collections.abc import Iterator
from typing import NamedTuple

from swe_aem.errors import UserError
from swe_aem.train.directory import ROLLOUTS
from swe_aem.view.charts import seconds
from swe_aem.view.found import Run
from swe_aem.view.overlay import overlaid
from swe_aem.view.pages.training import sections
from swe_aem.view.settings import Row, beside, settings
from swe_aem.view.site import Asked, Crumb, NotThere, Shown, Site
from swe_aem.view.training_run import TrainingRun, read_training_run
from swe_aem.view.training_words import fact_rows, later, rate_rows, sentence


class Rate(NamedTuple):
    """Held-out rates of one kind of tasks."""

    what: str
    values: tuple[str, ...]
    """Before, after and change of the first run, then of the second."""


def show(site: Site, asked: Asked, first: Run, second: Run) -> Shown:
    """The comparison of two training runs."""
    runs = (read_training_run(first.directory), read_training_run(second.directory))
    names = (first.name, second.name)
    differing, problem = _settings(first, second)
    found = sections(overlaid(*runs, names))
    return Shown(
        template="compare_training.html.jinja",
        title=f"{second.name} against {first.name}",
        crumbs=tuple(Crumb(name, asked.link("run", run=name)) for name in names),
        values={
            "names": names,
            "sentences": [sentence(run) for run in runs],
            "later": [later(run) for run in runs],
            "rates": list(_rates(*runs)),
            "facts": _facts(*runs),
            "differing": differing,
            "problem": problem,
            "stores": list(_stores(site, asked, first, second)),
            "sections": found,
        },
        live=not all(run.ended for run in runs),
        charts=bool(found),
    )


def _rates(first: TrainingRun, second: TrainingRun) -> Iterator[Rate]:
    sides = [{what: values for what, *values in rate_rows(run)} for run in (first, second)]
    for what in dict.fromkeys((*sides[0], *sides[1])):
        yield Rate(what, tuple(value for side in sides for value in side.get(what, ("–", "–", "–"))))


def _facts(first: TrainingRun, second: TrainingRun) -> list[Row]:
    """How long, how many trajectories, what failed; and the seconds of each phase."""
    sides = [{**dict(fact_rows(run)), **_seconds(run)} for run in (first, second)]
    return [Row(what, (sides[0].get(what), sides[1].get(what))) for what in dict.fromkeys((*sides[0], *sides[1]))]


def _seconds(run: TrainingRun) -> dict[str, str]:
    """Mean seconds of a step, and of each phase in it."""
    whole, phases = run.series("step_s")[1], seconds(run)
    found = {"Seconds per step": whole}
    for one in phases.series if phases else ():
        found[f"Seconds per step, {one.label}"] = list(one.y)
    return {what: f"{sum(values) / len(values):.1f}" for what, values in found.items() if values}


def _settings(first: Run, second: Run) -> tuple[list[Row], str]:
    """What differs; and why that is not known."""
    try:
        return beside(settings(first).all, settings(second).all), ""
    except (NotThere, UserError) as error:
        return [], str(error)


def _stores(site: Site, asked: Asked, first: Run, second: Run) -> Iterator[tuple[str, str]]:
    """(name, address) of the comparisons of the stores that both have."""
    there = {(run.part_of, run.directory.name): run.name for run in site.runs() if run.part_of}
    for (whole, name), store in there.items():
        if whole == first.name and (other := there.get((second.name, name))) is not None:
            what = "rollouts of the steps" if name == ROLLOUTS else f"held-out tasks, {name}"
            yield what, asked.link("compare-runs", query={"a": store, "b": other})
