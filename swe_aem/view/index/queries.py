"""Filters, orders and rows, between the types of `model` and SQL."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from swe_aem.core import Outcome, TrajectoryKey
from swe_aem.store.surrogates import escape, unescape
from swe_aem.view.index.model import FacetName, FacetValue, Filter, IndexedTrajectory, Order
from swe_aem.view.index.words import expression

MOST_FACET_VALUES = 50
_LARGEST = 1 << 62
"""SQLite takes no larger number, and nothing here is as large."""

_ORDERS = {
    "written": ("segment", "line"),
    "task": ("task", "sample"),
}
"""Columns of orders that are not one column of the same name."""
_FACET_COLUMNS: dict[FacetName, str] = {
    "outcome": "outcome",
    "agent": "agent",
    "model": "model",
    "stop": "stop",
    "step": "step",
    "cause": "cause",
}
_FACET_TABLES: dict[FacetName, str] = {"tool": "tools", "label": "labels"}
_OWN_CONDITION: dict[FacetName, dict[str, Any]] = {
    "outcome": {"outcomes": ()},
    "agent": {"agents": ()},
    "model": {"models": ()},
    "stop": {"stops": ()},
    "step": {"min_step": None, "max_step": None},
    "cause": {"causes": ()},
}
"""What a facet leaves out of the filter that it counts under: its other values can be chosen too."""


class Where(NamedTuple):
    """A condition in SQL and its values."""

    sql: str
    values: list[Any]


def where(connection: sqlite3.Connection, filter: Filter) -> Where:
    """The rows of `trajectories` that a filter lets through. A text is searched once for a connection, which asks for
    one text only."""
    conditions: list[str] = []
    values: list[Any] = []

    def add(condition: str, *given: Any) -> None:
        conditions.append(condition)
        values.extend(given)

    if filter.text.strip():
        found = expression(filter.text, filter.text_in)
        if found is None:
            add("0")
        else:
            connection.execute(
                "CREATE TEMP TABLE IF NOT EXISTS matched AS SELECT rowid AS id FROM texts WHERE texts MATCH ?", (found,)
            )
            add("id IN (SELECT id FROM matched)")
    for column, wanted in _listed(filter):
        if wanted:
            add(f"{column} IN ({', '.join('?' * len(wanted))})", *map(escape, wanted))
    if filter.task_part:
        add("instr(lower(task), lower(?)) > 0", escape(filter.task_part))
    for table, names in (("tools", filter.tools), ("labels", filter.labels)):
        for name in names:
            add(f"id IN (SELECT trajectory FROM {table} WHERE name = ?)", escape(name))
    if filter.resolved is not None:
        add("resolved = ?", filter.resolved)
    if filter.disputed is not None:
        add("(official IS NOT NULL AND official != resolved) = ?", filter.disputed)
    if filter.has_error is not None:
        add("(error IS NOT NULL) = ?", filter.has_error)
    for column in ("step", "reward", "turns", "tokens", "total_s"):
        for sign, end in ((">=", "min"), ("<=", "max")):
            if (limit := getattr(filter, f"{end}_{column}")) is not None:
                add(f"{column} {sign} ?", max(-_LARGEST, min(_LARGEST, limit)))
    return Where(" AND ".join(conditions) or "1", values)


def _listed(filter: Filter) -> Iterable[tuple[str, Sequence[str]]]:
    yield "outcome", filter.outcomes
    yield "task", filter.tasks
    yield "agent", filter.agents
    yield "model", filter.models
    yield "stop", filter.stops
    yield "cause", filter.causes


def order_by(order: Order) -> str:
    """The terms of an `ORDER BY`: missing values last, equal ones by task and sample."""
    way = "DESC" if order.descending else "ASC"
    terms = [f"{column} IS NULL, {column} {way}" for column in _ORDERS.get(order.by, (order.by,))]
    return ", ".join((*terms, "task", "sample"))


def facet(connection: sqlite3.Connection, name: FacetName, filter: Filter) -> tuple[FacetValue, ...]:
    """Values of one facet, the most frequent first; of the steps, in order."""
    found = where(connection, filter.model_copy(update=_OWN_CONDITION.get(name, {})))
    sums = "COUNT(*) AS n, SUM(counts) AS counted, SUM(counts AND resolved) AS resolved"
    if (table := _FACET_TABLES.get(name)) is not None:
        matching = f"SELECT id AS trajectory, counts, resolved FROM trajectories WHERE {found.sql}"
        source = f"SELECT name AS value, {sums} FROM {table} JOIN ({matching}) USING (trajectory)"
    else:
        column = _FACET_COLUMNS[name]
        source = f"SELECT {column} AS value, {sums} FROM trajectories WHERE {found.sql} AND {column} IS NOT NULL"
    order = "value" if name == "step" else "n DESC, value"
    rows = connection.execute(f"{source} GROUP BY 1 ORDER BY {order} LIMIT {MOST_FACET_VALUES}", found.values)
    return tuple(
        FacetValue(unescape(str(row["value"])), row["n"], row["counted"], row["resolved"])
        for row in rows
        if row["value"] != ""
    )


def trajectory_of(row: sqlite3.Row) -> IndexedTrajectory:
    """A row of `trajectories`."""
    return IndexedTrajectory(
        task_id=unescape(row["task"]),
        sample=row["sample"],
        block=row["block"],
        step=row["step"],
        attempt=row["attempt"],
        outcome=Outcome(row["outcome"]),
        reward=row["reward"],
        counts=bool(row["counts"]),
        resolved=bool(row["resolved"]),
        official_resolved=None if row["official"] is None else bool(row["official"]),
        agent=unescape(row["agent"]),
        model=unescape(row["model"]),
        stop=row["stop"],
        first_version=row["first_version"],
        last_version=row["last_version"],
        turns=row["turns"],
        tool_calls=row["tool_calls"],
        malformed_calls=row["malformed_calls"],
        tokens=row["tokens"],
        sampled_tokens=row["sampled_tokens"],
        branches=row["branches"],
        patch_bytes=row["patch_bytes"],
        patch_files=tuple(json.loads(row["files"])),
        has_log=bool(row["has_log"]),
        error=None if row["error"] is None else unescape(row["error"]),
        integrity=tuple(json.loads(row["integrity"])),
        tools={unescape(name): calls for name, calls in json.loads(row["tools"]).items()},
        labels=tuple(json.loads(row["labels"])),
        timings_s=json.loads(row["timings"]),
    )


def key_of(row: sqlite3.Row) -> TrajectoryKey:
    """The key in a row that has the columns `task` and `sample`."""
    return TrajectoryKey(unescape(row["task"]), row["sample"])
