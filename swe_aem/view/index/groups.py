"""Groups, and solve rates task by task, from the rows of an index."""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from operator import attrgetter
from typing import Any, NamedTuple

from swe_aem.core import Outcome, Trajectory
from swe_aem.core.outcome import LimitsReward
from swe_aem.store.surrogates import unescape
from swe_aem.train.steps import cut, is_broken, varied
from swe_aem.view.index.build import read_facts
from swe_aem.view.index.model import (
    Group,
    GroupMember,
    GroupOrder,
    GroupPage,
    Matrix,
    MatrixCell,
    MatrixColumn,
    MatrixOrder,
    MatrixRow,
)
from swe_aem.view.index.queries import Where


def grouped(
    connection: sqlite3.Connection,
    found: Where,
    *,
    zero_variance: bool | None,
    order: GroupOrder,
    descending: bool,
    number: int,
    size: int,
) -> GroupPage:
    """One page of groups, as `StoreIndex.groups` says."""
    groups = list(_groups(connection, found))
    flat = sum(group.zero_variance for group in groups)
    if zero_variance is not None:
        groups = [group for group in groups if group.zero_variance == zero_variance]
    groups = _sorted(groups, _GROUP_KEYS[order], descending=descending)
    number = min(max(number, 1), max(1, -(-len(groups) // size)))
    page = groups[(number - 1) * size : number * size]
    return GroupPage(groups=tuple(page), total=len(groups), zero_variance=flat, number=number, size=size)


_GROUP_KEYS: dict[GroupOrder, Any] = {
    "task": attrgetter("task_id", "block"),
    "step": attrgetter("step"),
    "reward": attrgetter("reward"),
    "resolved": attrgetter("resolved"),
    "size": lambda group: len(group.members),
}


def _sorted(values: Iterable[Any], key: Any, *, descending: bool) -> list[Any]:
    """Sorted by a key, values without one last; ties stay as they were."""
    with_key = [value for value in values if key(value) is not None]
    without = [value for value in values if key(value) is None]
    return sorted(with_key, key=key, reverse=descending) + without


def _groups(connection: sqlite3.Connection, found: Where) -> Iterator[Group]:
    facts = read_facts(connection)
    rows = connection.execute(
        "SELECT task, block, step, sample, outcome, reward, counts, resolved, response_rewards FROM trajectories "
        f"WHERE (task, block) IN (SELECT task, block FROM trajectories WHERE {found.sql}) ORDER BY task, block, sample",
        found.values,
    )
    members: dict[tuple[str, int], list[sqlite3.Row]] = defaultdict(list)
    for row in rows:
        members[row["task"], row["block"]].append(row)
    for several in members.values():
        yield _group(several, facts.get("group_size"), facts.get("limits_reward", "graded"))


def _group(rows: Sequence[sqlite3.Row], size: int | None, limits_reward: LimitsReward) -> Group:
    # what decides whether a group varies is asked as training asks it, and that reads these fields alone
    trajectories = tuple(
        Trajectory.model_construct(
            sample=row["sample"],
            outcome=Outcome(row["outcome"]),
            reward=row["reward"],
            response_rewards=None if row["response_rewards"] is None else tuple(json.loads(row["response_rewards"])),
        )
        for row in rows
    )
    broken = is_broken(trajectories)
    counted = any(row["counts"] for row in rows)
    trained = trajectories if size is None else cut(trajectories, size)
    return Group(
        task_id=unescape(rows[0]["task"]),
        block=rows[0]["block"],
        step=min((row["step"] for row in rows if row["step"] is not None), default=None),
        members=tuple(
            GroupMember(
                row["sample"], Outcome(row["outcome"]), row["reward"], bool(row["counts"]), bool(row["resolved"])
            )
            for row in rows
        ),
        zero_variance=counted and not broken and not varied(trained, limits_reward),
        broken=broken,
    )


class _Sums(NamedTuple):
    """Trajectories of one task in one step or of one sample, added up."""

    trajectories: int = 0
    counted: int = 0
    resolved: int = 0
    rewarded: int = 0
    reward: float = 0.0

    def cell(self) -> MatrixCell:
        mean = self.reward / self.rewarded if self.rewarded else None
        return MatrixCell(self.trajectories, self.counted, self.resolved, mean)

    @staticmethod
    def of(several: Iterable["_Sums"]) -> "_Sums":
        columns = list(zip(*several, strict=True))
        return _Sums(*(sum(column) for column in columns)) if columns else _Sums()


def matrix_of(
    connection: sqlite3.Connection,
    found: Where,
    *,
    pivot: int | None,
    order: MatrixOrder,
    descending: bool,
    most_columns: int,
    number: int,
    size: int,
) -> Matrix:
    """Solve rates by task, as `StoreIndex.matrix` says."""
    steps = connection.execute(f"SELECT COUNT(step) FROM trajectories WHERE {found.sql}", found.values).fetchone()[0]
    by = "step" if steps else "sample"
    tasks: dict[str, dict[int, _Sums]] = defaultdict(dict)
    for row in connection.execute(
        f"SELECT task, {by} AS at, COUNT(*), SUM(counts), SUM(counts AND resolved), "
        "SUM(counts AND reward IS NOT NULL), SUM(CASE WHEN counts THEN COALESCE(reward, 0) ELSE 0 END) "
        f"FROM trajectories WHERE {found.sql} AND {by} IS NOT NULL GROUP BY task, {by} ORDER BY task",
        found.values,
    ):
        tasks[unescape(row["task"])][row["at"]] = _Sums(*tuple(row)[2:])
    places = sorted({at for one in tasks.values() for at in one})
    columns = _columns(places, most_columns)
    if pivot is None and len(places) > 1:
        pivot = places[(len(places) - 1) // 2]
    rows = _sorted(
        [_row(id, sums, columns, pivot) for id, sums in tasks.items()], _ROW_KEYS[order], descending=descending
    )
    total: dict[int, _Sums] = {at: _Sums.of(one[at] for one in tasks.values() if at in one) for at in places}
    number = min(max(number, 1), max(1, -(-len(rows) // size)))
    return Matrix(
        by=by,
        columns=tuple(columns),
        pivot=pivot,
        rows=tuple(rows[(number - 1) * size : number * size]),
        all=_row("", total, columns, pivot),
        total=len(rows),
        compared=sum(row.change is not None for row in rows),
        number=number,
        size=size,
    )


_ROW_KEYS: dict[MatrixOrder, Any] = {
    "task": attrgetter("task_id"),
    "rate": lambda row: row.all.rate,
    "change": attrgetter("change"),
}


def _columns(places: Sequence[int], most: int) -> list[MatrixColumn]:
    """Each place on its own, or where there are more than fit, about as many in each column."""
    wanted = min(len(places), most)
    edges = [n * len(places) // wanted for n in range(wanted + 1)] if wanted else []
    return [MatrixColumn(places[start], places[stop - 1]) for start, stop in pairwise(edges)]


def _row(task_id: str, sums: dict[int, _Sums], columns: Sequence[MatrixColumn], pivot: int | None) -> MatrixRow:
    cells = []
    for column in columns:
        inside = [one for at, one in sums.items() if column.first <= at <= column.last]
        cells.append(_Sums.of(inside).cell() if inside else None)
    change = None
    if pivot is not None:
        before = _Sums.of(one for at, one in sums.items() if at <= pivot).cell().rate
        after = _Sums.of(one for at, one in sums.items() if at > pivot).cell().rate
        change = None if before is None or after is None else after - before
    return MatrixRow(task_id=task_id, cells=tuple(cells), all=_Sums.of(sums.values()).cell(), change=change)
