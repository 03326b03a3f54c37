"""The first page of a store: what came of it, and links to its lists."""

from collections.abc import Callable
from typing import NamedTuple

from swe_aem.errors import UserError
from swe_aem.store import Summary, read_summary
from swe_aem.view.beside import comparisons
from swe_aem.view.found import Run
from swe_aem.view.index import FacetName, FacetValue, Filter, StoreIndex
from swe_aem.view.listed import Listed
from swe_aem.view.pages.runlog import logs_of
from swe_aem.view.pages.trajectories import tabs
from swe_aem.view.site import Asked, Crumb, Shown, Site

FACETS: tuple[tuple[FacetName, str], ...] = (
    ("outcome", "outcomes"),
    ("label", "audit labels"),
    ("tool", "tools"),
    ("cause", "causes of failures"),
)
"""What the page counts by, and its headings."""


class Count(NamedTuple):
    """One value of a facet."""

    value: FacetValue
    href: str


def show(site: Site, asked: Asked, run: Run) -> Shown:
    """A store in numbers, as far as it is indexed."""
    index = site.index(run)
    progress = index.refresh()
    summary, problem = _summary(run)

    def trajectories(query: dict[str, str]) -> str:
        return asked.link("trajectories", query=query, run=run.name)

    disputed = Listed(filter=Filter(disputed=True))
    return Shown(
        template="store.html.jinja",
        title=run.name,
        crumbs=(Crumb(run.part_of, asked.link("run", run=run.part_of)),) if run.part_of else (),
        live=True,
        values={
            "run": run,
            "tabs": tabs(asked, run),
            "log": asked.link("runlog", run=run.name) if logs_of(run) else "",
            "config": asked.link("config", run=run.name),
            "others": comparisons(site, asked, run),
            "note": index.note,
            "progress": progress,
            "damaged": index.damaged() if progress.damaged else (),
            "totals": index.totals(),
            "summary": summary,
            "problem": problem,
            "facets": _counts(index, trajectories),
            "disputed": index.totals(disputed.filter).trajectories,
            "disputed_href": trajectories(disputed.query()),
        },
    )


def _counts(index: StoreIndex, trajectories: Callable[[dict[str, str]], str]) -> list[tuple[str, list[Count]]]:
    facets = index.facets([name for name, _ in FACETS])
    return [
        (text, [Count(value, trajectories(Listed().switched(name, value.value))) for value in facets[name]])
        for name, text in FACETS
        if facets[name]
    ]


def _summary(run: Run) -> tuple[Summary | None, str | None]:
    """The summary that the run wrote, and why there is none although it wrote one."""
    try:
        return read_summary(run.directory), None
    except UserError as error:
        return None, str(error)
