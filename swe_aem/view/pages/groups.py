"""The groups of a store: trajectories of one task that share a baseline, and whether anything is learned from them."""

from typing import NamedTuple

from swe_aem.view.index import Filter, Group, GroupMember, GroupOrder
from swe_aem.view.listed import Listed, listed
from swe_aem.view.pages.trajectories import crumbs_of, store_run, tabs
from swe_aem.view.site import Asked, Shown, Site

COLUMNS: tuple[tuple[GroupOrder, str], ...] = (
    ("task", "task"),
    ("step", "step"),
    ("size", "trajectories"),
    ("resolved", "resolved"),
    ("reward", "mean reward"),
)
_ORDERS: dict[str, GroupOrder] = {column: column for column, _ in COLUMNS}
KINDS = {"": None, "yes": True, "no": False}
"""Values of the parameter `flat`: all groups, zero-variance groups, and others."""


class Row(NamedTuple):
    """One group."""

    group: Group
    href: str
    """Its trajectories."""
    members: list[tuple[GroupMember, str]]
    """Each with the address of its page."""


def show(site: Site, asked: Asked) -> Shown:
    """The list of groups."""
    run = store_run(site, asked)
    index, wanted = site.index(run), listed(asked.query)
    flat = asked.query.get("flat", "")
    flat = flat if flat in KINDS else ""
    order = _ORDERS.get(asked.query.get("sort", ""), "task")
    descending = asked.query.get("way") == "down"
    progress = index.refresh()
    page = index.groups(
        wanted.filter,
        zero_variance=KINDS[flat],
        order=order,
        descending=descending,
        number=wanted.number,
        size=wanted.size,
    )

    def here(**changes: str) -> str:
        query = {**wanted.conditions(), "flat": flat, "sort": order, "way": "down" if descending else "", **changes}
        return asked.link("groups", query={name: value for name, value in query.items() if value}, run=run.name)

    def sort(column: GroupOrder) -> str:
        down = not descending if column == order else column != "task"
        return here(sort=column, way="down" if down else "")

    return Shown(
        template="groups.html.jinja",
        title=f"Groups of {run.name}",
        crumbs=crumbs_of(asked, run),
        live=True,
        values={
            "tabs": tabs(asked, run),
            "action": asked.link("groups", run=run.name),
            "note": index.note,
            "progress": progress,
            "damaged": (),
            "listed": wanted,
            "flat": flat,
            "page": page,
            "rows": [_row(asked, run.name, group) for group in page.groups],
            "headings": [
                (text, sort(column), ("descending" if descending else "ascending") if column == order else None)
                for column, text in COLUMNS
            ],
            "previous": here(page=str(page.number - 1)) if page.number > 1 else None,
            "next": here(page=str(page.number + 1)) if page.number < page.pages else None,
        },
    )


def _row(asked: Asked, run: str, group: Group) -> Row:
    def href(sample: int) -> str:
        return asked.link("trajectory", run=run, task=group.task_id, sample=str(sample))

    query = Listed(filter=Filter(tasks=(group.task_id,), min_step=group.step, max_step=group.step)).query()
    members = [(member, href(member.sample)) for member in group.members]
    return Row(group, asked.link("trajectories", query=query, run=run), members)
