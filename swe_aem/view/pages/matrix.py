"""Solve rates of a store: a row per task, a column per training step, or per sample where there are no steps."""

from typing import NamedTuple

from swe_aem.view.index import Filter, Matrix, MatrixCell, MatrixColumn, MatrixOrder, MatrixRow, Order
from swe_aem.view.listed import Listed, listed
from swe_aem.view.pages.trajectories import crumbs_of, store_run, tabs
from swe_aem.view.site import Asked, Shown, Site

COLUMNS: tuple[tuple[MatrixOrder, str], ...] = (("task", "task"), ("rate", "all"), ("change", "change"))
"""What tasks can be sorted by, and its heading."""
_ORDERS: dict[str, MatrixOrder] = {column: column for column, _ in COLUMNS}
_LEVELS = 10
"""Colours from no trajectory resolved to all resolved."""


class Cell(NamedTuple):
    """One cell of the table."""

    cell: MatrixCell
    level: int | None
    """0 to `_LEVELS`; None where nothing counts."""
    href: str
    """Its trajectories."""


class Row(NamedTuple):
    """One task."""

    row: MatrixRow
    href: str
    cells: list[Cell | None]


def show(site: Site, asked: Asked) -> Shown:
    """The table."""
    run = store_run(site, asked)
    index, wanted = site.index(run), listed(asked.query)
    order = _ORDERS.get(asked.query.get("sort", ""), "task")
    descending = asked.query.get("way") == "down"
    given = asked.query.get("pivot", "")
    pivot = int(given) if given.isascii() and given.isdigit() and len(given) < 10 else None
    progress = index.refresh()
    matrix = index.matrix(
        wanted.filter, pivot=pivot, order=order, descending=descending, number=wanted.number, size=wanted.size
    )

    def here(**changes: str) -> str:
        query = {
            **wanted.conditions(),
            "pivot": "" if pivot is None else str(pivot),
            "sort": order,
            "way": "down" if descending else "",
            **changes,
        }
        return asked.link("matrix", query={name: value for name, value in query.items() if value}, run=run.name)

    def sort(column: MatrixOrder) -> str:
        down = not descending if column == order else False
        return here(sort=column, way="down" if down else "")

    return Shown(
        template="matrix.html.jinja",
        title=f"Solve rates of {run.name}",
        crumbs=crumbs_of(asked, run),
        live=True,
        values={
            "tabs": tabs(asked, run),
            "action": asked.link("matrix", run=run.name),
            "note": index.note,
            "progress": progress,
            "damaged": (),
            "listed": wanted,
            "matrix": matrix,
            "pivot": matrix.pivot,
            "rows": [_row(asked, run.name, matrix, row) for row in matrix.rows],
            "total": _row(asked, run.name, matrix, matrix.all),
            "headings": {
                column: (text, sort(column), ("descending" if descending else "ascending") if column == order else None)
                for column, text in COLUMNS
            },
            "previous": here(page=str(matrix.number - 1)) if matrix.number > 1 else None,
            "next": here(page=str(matrix.number + 1)) if matrix.number < matrix.pages else None,
        },
    )


def _row(asked: Asked, run: str, matrix: Matrix, row: MatrixRow) -> Row:
    tasks = (row.task_id,) if row.task_id else ()

    def href(column: MatrixColumn | None) -> str:
        first, last = (column.first, column.last) if column is not None and matrix.by == "step" else (None, None)
        found = Listed(
            filter=Filter(tasks=tasks, min_step=first, max_step=last), order=Order(by="task", descending=False)
        )
        return asked.link("trajectories", query=found.query(), run=run)

    cells = [
        None if cell is None else Cell(cell, _level(cell.rate), href(column))
        for cell, column in zip(row.cells, matrix.columns, strict=True)
    ]
    return Row(row, href(None), cells)


def _level(rate: float | None) -> int | None:
    return None if rate is None else round(rate * _LEVELS)
