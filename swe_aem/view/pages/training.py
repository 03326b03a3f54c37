"""The page of a training run: did it learn, is AEM at work, what happened, and where to look on."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from swe_aem.store import is_locked
from swe_aem.train.directory import ROLLOUTS
from swe_aem.train.launch.commands import SERVE
from swe_aem.view.aem import is_aem_at_work
from swe_aem.view.beside import comparisons
from swe_aem.view.charts import MANY_STEPS, Chart, charts
from swe_aem.view.conversation import conversations
from swe_aem.view.found import Run
from swe_aem.view.pages.runlog import logs_of
from swe_aem.view.site import Asked, Shown, Site
from swe_aem.view.training_run import TrainingRun, read_training_run
from swe_aem.view.training_words import fact_rows, later, rate_rows, sentence


class Link(NamedTuple):
    """Where to look on."""

    text: str
    href: str
    why: str


class Section(NamedTuple):
    """Charts under one heading."""

    title: str
    charts: list[Chart]


def show(site: Site, asked: Asked, run: Run) -> Shown:
    """The page of one training run."""
    found = read_training_run(run.directory)
    shown = sections(charts(found))
    state = list(_state(found))
    return Shown(
        template="training.html.jinja",
        title=run.name,
        values={
            "directory": run.directory,
            "run": found,
            "sentence": sentence(found),
            "rates": list(rate_rows(found)),
            "later": later(found),
            "aem": is_aem_at_work(found),
            "facts": [*state, *fact_rows(found)],
            "links": [] if asked.links.alone else list(_links(site, asked, run, found)),
            "sections": shown,
            "others": comparisons(site, asked, run),
            "examples": conversations(found.directory) if asked.links.alone else [],
            "config": found.config if asked.links.alone else None,
            "smoothed": len(found.steps) > MANY_STEPS,
        },
        live=bool(state),
        charts=bool(shown),
    )


def _state(found: TrainingRun) -> Iterator[tuple[str, str]]:
    """Is a run in progress that has not ended, or that was given more steps?"""
    if is_locked(found.directory):
        yield "Is it running?", "yes, a process is training it"
    elif is_locked(found.directory / SERVE):
        yield "Is it running?", "yes, swe-aem train --launch is starting its servers or its training processes"
    elif not found.ended:
        yield "Is it running?", "no process trains it here: it was stopped or killed. The same command resumes it"


def sections(found: Iterable[Chart]) -> list[Section]:
    """Charts by their headings."""
    by_title: dict[str, list[Chart]] = {}
    for chart in found:
        by_title.setdefault(chart.section, []).append(chart)
    return [Section(title, of_it) for title, of_it in by_title.items()]


def _links(site: Site, asked: Asked, run: Run, found: TrainingRun) -> Iterator[Link]:
    """Pages about this run, and its stores. Those about its rollouts are the pages of their store, so that no page has
    two addresses."""
    stores = [one for one in site.runs() if one.part_of == run.name]
    rollouts = next((one for one in stores if one.directory == run.directory / ROLLOUTS), run)
    pages: tuple[tuple[str, str, dict[str, str], str], ...] = (
        ("matrix", "Tasks by step", {}, "the solve rate of each task in each step"),
        (
            "matrix",
            "Tasks that got worse",
            {"sort": "change"},
            "the same, the largest fall first, after a step to choose",
        ),
        ("failures", "Failures", {}, "every attempt that failed, with its cause"),
    )
    for page, text, query, why in pages:
        yield Link(text, asked.link(page, query=query, run=rollouts.name), why)
    why = "what was set, and how it differs from the defaults and from another run"
    yield Link("Settings", asked.link("config", run=run.name), why)
    if logs_of(run):
        yield Link("Log", asked.link("runlog", run=run.name), "what the run did and why it failed, line by line")
    for store in stores:
        what = "the rollouts of its steps" if store == rollouts else "an evaluation on held-out tasks"
        yield Link(store.name, asked.link("run", run=store.name), what)
