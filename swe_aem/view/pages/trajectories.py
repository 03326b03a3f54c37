"""The trajectories of a store: searched, filtered, sorted, a page at a time."""

from collections.abc import Callable
from typing import NamedTuple

from swe_aem.view.found import Kind, Run
from swe_aem.view.index import FacetName, FacetValue, IndexedTrajectory, Snippet, SortColumn, StoreIndex, has_words
from swe_aem.view.listed import SIZES, Listed, listed
from swe_aem.view.site import Asked, Crumb, NotThere, Shown, Site

COLUMNS: tuple[tuple[SortColumn, str], ...] = (
    ("task", "trajectory"),
    ("outcome", "outcome"),
    ("reward", "reward"),
    ("step", "step"),
    ("turns", "turns"),
    ("tool_calls", "calls"),
    ("malformed_calls", "malformed"),
    ("tokens", "tokens"),
    ("patch_bytes", "patch"),
    ("total_s", "seconds"),
    ("attempt", "retries"),
)
"""What the table shows, and its headings."""
FACETS: tuple[FacetName, ...] = ("outcome", "tool", "label", "stop", "step", "agent", "model", "cause")
RANGES = (
    ("tokens", "tokens"),
    ("turns", "turns"),
    ("reward", "reward"),
    ("step", "step"),
    ("total_s", "seconds"),
)
"""Conditions with a smallest and a largest value, and what forms call them."""
_TOLD = {"q": "text", "in": "text in", "task_part": "task has", "has_error": "has an error"}
"""What people read for parameters whose names say too little."""
Here = Callable[[dict[str, str]], str]
"""From a query to the address of this page with it."""
_WITH_SNIPPETS = 10
"""Rows of a searched list that show where the text stands: each is read for it."""


class Heading(NamedTuple):
    """The heading of a column."""

    text: str
    href: str
    direction: str | None
    """`ascending` or `descending` where the list is sorted by it."""


class Value(NamedTuple):
    """One value of a facet."""

    value: FacetValue
    href: str
    chosen: bool


class Row(NamedTuple):
    """One trajectory."""

    one: IndexedTrajectory
    href: str
    snippets: list[Snippet]


def store_run(site: Site, asked: Asked) -> Run:
    """The run of that name, which has a store of trajectories; raises `NotThere`."""
    run = site.run(asked.values["run"])
    if run.kind is Kind.GRADES:
        raise NotThere(f"{run.name} holds verdicts on patches, and no trajectories")
    return run


def tabs(asked: Asked, run: Run) -> list[tuple[str, str, bool]]:
    """Links to the lists of a store: text, address, and whether it is this page."""
    pages = (
        ("trajectories", "trajectories"),
        ("groups", "groups"),
        ("matrix", "solve rates"),
        ("failures", "failures"),
        ("evaluation", "evaluation"),
    )
    return [(text, asked.link(page, run=run.name), page == asked.address.page) for page, text in pages]


def crumbs_of(asked: Asked, run: Run) -> tuple[Crumb, ...]:
    """The run above its lists, and the training run that it is part of."""
    names = (run.part_of, run.name) if run.part_of else (run.name,)
    return tuple(Crumb(name, asked.link("run", run=name)) for name in names)


def show(site: Site, asked: Asked) -> Shown:
    """The list, and what it can be narrowed down by."""
    run = store_run(site, asked)
    index, wanted = site.index(run), listed(asked.query)
    progress = index.refresh()
    page = index.page(wanted.filter, wanted.order, number=wanted.number, size=wanted.size)
    wanted = wanted.model_copy(update={"number": page.number})

    def here(query: dict[str, str]) -> str:
        return asked.link("trajectories", query=query, run=run.name)

    return Shown(
        template="trajectories.html.jinja",
        title=f"Trajectories of {run.name}",
        crumbs=crumbs_of(asked, run),
        live=True,
        values={
            "tabs": tabs(asked, run),
            "action": asked.link("trajectories", run=run.name),
            "note": index.note,
            "progress": progress,
            "damaged": index.damaged() if progress.damaged else (),
            "listed": wanted,
            "totals": index.totals(wanted.filter),
            "no_words": bool(wanted.filter.text) and not has_words(wanted.filter.text),
            "page": page,
            "rows": _rows(asked, run, index, wanted, page.rows),
            "headings": [_heading(wanted, column, text, here) for column, text in COLUMNS],
            "facets": _facets(index, wanted, here),
            "conditions": [
                (f"{_TOLD.get(name, name).replace('_', ' ')}: {value}", here(wanted.without(name)))
                for name, value in wanted.conditions().items()
            ],
            "kept": _kept(wanted),
            "ranges": [(name, text, _ends(wanted, name)) for name, text in RANGES],
            "has_ranges": any(any(_ends(wanted, name)) for name, _ in RANGES),
            "sizes": SIZES,
            "clear": here({}),
            "previous": here(wanted.at(page.number - 1)) if page.number > 1 else None,
            "next": here(wanted.at(page.number + 1)) if page.number < page.pages else None,
        },
    )


def _rows(asked: Asked, run: Run, index: StoreIndex, wanted: Listed, found: tuple[IndexedTrajectory, ...]) -> list[Row]:
    rows = []
    for number, one in enumerate(found):
        searched = wanted.filter.text and number < _WITH_SNIPPETS
        snippets = index.snippets(one.key, wanted.filter.text, wanted.filter.text_in) if searched else []
        query = wanted.at(1)
        href = asked.link("trajectory", query=query, run=run.name, task=one.task_id, sample=str(one.sample))
        rows.append(Row(one, href, snippets))
    return rows


def _heading(wanted: Listed, column: SortColumn, text: str, here: Here) -> Heading:
    direction = None
    if wanted.order.by == column:
        direction = "descending" if wanted.order.descending else "ascending"
    return Heading(text, here(wanted.sorted_by(column)), direction)


def _facets(index: StoreIndex, wanted: Listed, here: Here) -> list[tuple[FacetName, list[Value]]]:
    """Facets that have more than one value, or one that is chosen."""
    found = []
    for name, values in index.facets(FACETS, wanted.filter).items():
        chosen = wanted.chosen(name)
        if len(values) > 1 or chosen:
            shown = [Value(one, here(wanted.switched(name, one.value)), one.value in chosen) for one in values]
            found.append((name, shown))
    return found


def _kept(wanted: Listed) -> dict[str, str]:
    """Parameters that the form keeps although it has no field for them."""
    fields = {
        "q",
        "in",
        "task_part",
        "page",
        "size",
        *(f"{end}_{name}" for end in ("min", "max") for name, _ in RANGES),
    }
    return {name: value for name, value in wanted.query().items() if name not in fields}


def _ends(wanted: Listed, name: str) -> tuple[str, str]:
    ends = (getattr(wanted.filter, f"min_{name}"), getattr(wanted.filter, f"max_{name}"))
    return ("" if ends[0] is None else f"{ends[0]:g}", "" if ends[1] is None else f"{ends[1]:g}")
