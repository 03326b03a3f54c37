"""`StoreIndex`: a rollout store that can be listed, filtered, searched and counted without reading it.

The index is filled by a process of its own (`Indexer`), a stretch at a time, while what it has already can be asked.
Every method may be called from any thread. Strings of answers are those of the trajectories: hostile ones too.
"""

import glob
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from swe_aem.core import Outcome, Trajectory, TrajectoryKey
from swe_aem.errors import UserError
from swe_aem.evaluate import Sample, Scores, sums
from swe_aem.store import StoredRow
from swe_aem.store.segments import Line, segment_path, sound
from swe_aem.store.store import read_excerpt, read_row, read_texts
from swe_aem.store.surrogates import escape, unescape
from swe_aem.store.trajectory_row import Excerpt
from swe_aem.view.index.build import IndexBuilder, look, read_facts, seal_of
from swe_aem.view.index.database import connect, empty, place_of
from swe_aem.view.index.groups import grouped, matrix_of
from swe_aem.view.index.indexer import Indexer
from swe_aem.view.index.model import (
    LARGEST_PAGE,
    NEWEST_FIRST,
    DamagedRow,
    FacetName,
    FacetValue,
    Filter,
    GroupOrder,
    GroupPage,
    IndexedTrajectory,
    Matrix,
    MatrixOrder,
    Neighbours,
    Order,
    Page,
    Progress,
    Snippet,
    TextPlace,
    Totals,
)
from swe_aem.view.index.queries import facet, key_of, order_by, trajectory_of, where
from swe_aem.view.index.texts import passages
from swe_aem.view.index.words import snippets

ALL = Filter()


class StoreIndex:
    """The index of one store."""

    def __init__(self, directory: Path, indexer: Indexer | None = None) -> None:
        """`directory` is a store's, also one that has no trajectory yet. With an `indexer`, `refresh` has it read what
        is new; without one, `build` does."""
        self.directory = directory
        self._folder = directory / "trajectories"
        self._indexer = indexer
        place = place_of(directory)
        self._database = place.path
        self.note = place.note
        """Why the index is temporary, to be said once; None if it lies in the cache."""

    def refresh(self) -> Progress:
        """Have what is new indexed, and say how far it is. Cheap: it looks at the segments' sizes."""
        with closing(connect(self._database)) as connection:
            seen = look(connection, self._folder)
            facts = read_facts(connection)
            rows = connection.execute("SELECT COUNT(*) FROM trajectories").fetchone()[0]
            damaged = connection.execute("SELECT COUNT(*) FROM damaged").fetchone()[0]
        if self._indexer is not None and (seen.unread or not seen.same):
            self._indexer.request(self.directory, self._database)
        if not seen.same:
            rows = damaged = 0
        return Progress(
            rows=rows,
            damaged=damaged,
            bytes_done=seen.bytes_done if seen.same else 0,
            bytes_total=seen.bytes_total,
            bytes_per_s=facts.get("bytes_per_s", 0.0),
            wanted=facts.get("wanted"),
            failure=self._indexer.failure(self.directory) if self._indexer is not None else None,
        )

    def files(self) -> tuple[Path, ...]:
        """The files that the index takes."""
        return tuple(sorted(self._database.parent.glob(f"{glob.escape(self._database.name)}*")))

    def build(self) -> None:
        """Index everything, here and now."""
        with closing(IndexBuilder(self.directory, self._database)) as builder:
            while builder.stretch():
                pass

    def totals(self, filter: Filter = ALL) -> Totals:
        """The trajectories that a filter lets through, in numbers."""
        with self._reading() as connection:
            found = where(connection, filter)
            row = connection.execute(
                "SELECT COUNT(*) AS n, COUNT(DISTINCT task) AS tasks, SUM(counts) AS counted, "
                "SUM(counts AND resolved) AS resolved, AVG(CASE WHEN counts THEN reward END) AS reward, "
                "SUM(tokens) AS tokens, SUM(sampled_tokens) AS sampled, MIN(step) AS first, MAX(step) AS last "
                f"FROM trajectories WHERE {found.sql}",
                found.values,
            ).fetchone()
            groups = connection.execute(
                f"SELECT COUNT(*) FROM (SELECT DISTINCT task, block FROM trajectories WHERE {found.sql})", found.values
            ).fetchone()[0]
            outcomes = connection.execute(
                f"SELECT outcome, COUNT(*) AS n FROM trajectories WHERE {found.sql} GROUP BY 1", found.values
            ).fetchall()
        by_name = {row["outcome"]: row["n"] for row in outcomes}
        return Totals(
            trajectories=row["n"],
            tasks=row["tasks"],
            groups=groups,
            counted=row["counted"] or 0,
            resolved=row["resolved"] or 0,
            reward=row["reward"],
            outcomes={outcome: by_name[outcome] for outcome in Outcome if outcome in by_name},
            tokens=row["tokens"] or 0,
            sampled_tokens=row["sampled"] or 0,
            first_step=row["first"],
            last_step=row["last"],
        )

    def scores(self) -> Scores:
        """What an evaluation counts; texts in it are shortened."""
        with self._reading() as connection:
            rows = connection.execute("SELECT scored FROM trajectories ORDER BY segment, line")
            return sums(Sample(*json.loads(row["scored"])) for row in rows)

    def page(self, filter: Filter = ALL, order: Order = NEWEST_FIRST, *, number: int = 1, size: int = 50) -> Page:
        """One page of the trajectories that a filter lets through; the last one where `number` is beyond it."""
        size = min(max(size, 1), LARGEST_PAGE)
        with self._reading() as connection:
            found = where(connection, filter)
            count = f"SELECT COUNT(*) FROM trajectories WHERE {found.sql}"
            total = connection.execute(count, found.values).fetchone()[0]
            number = min(max(number, 1), max(1, -(-total // size)))
            rows = connection.execute(
                f"SELECT * FROM trajectories WHERE {found.sql} ORDER BY {order_by(order)} LIMIT ? OFFSET ?",
                (*found.values, size, (number - 1) * size),
            ).fetchall()
        return Page(rows=tuple(map(trajectory_of, rows)), total=total, number=number, size=size)

    def facets(self, names: Sequence[FacetName], filter: Filter = ALL) -> dict[FacetName, tuple[FacetValue, ...]]:
        """How many of the trajectories that a filter lets through have each value. A facet's own condition is left out,
        so that its other values can be chosen; that of tools and labels is not, for a trajectory has several."""
        with self._reading() as connection:
            return {name: facet(connection, name, filter) for name in names}

    def groups(
        self,
        filter: Filter = ALL,
        *,
        zero_variance: bool | None = None,
        order: GroupOrder = "task",
        descending: bool = False,
        number: int = 1,
        size: int = 50,
    ) -> GroupPage:
        """One page of groups: those that have a trajectory which the filter lets through, with all their members."""
        with self._reading() as connection:
            return grouped(
                connection,
                where(connection, filter),
                zero_variance=zero_variance,
                order=order,
                descending=descending,
                number=number,
                size=min(max(size, 1), LARGEST_PAGE),
            )

    def matrix(
        self,
        filter: Filter = ALL,
        *,
        pivot: int | None = None,
        order: MatrixOrder = "task",
        descending: bool = False,
        columns: int = 24,
        number: int = 1,
        size: int = 100,
    ) -> Matrix:
        """Solve rates of tasks by training step, or by sample where there are no steps, in at most so many columns.
        `pivot` is the last step of the part that the rest is compared with; the middle one if it is not given."""
        with self._reading() as connection:
            return matrix_of(
                connection,
                where(connection, filter),
                pivot=pivot,
                order=order,
                descending=descending,
                most_columns=max(columns, 1),
                number=number,
                size=min(max(size, 1), LARGEST_PAGE),
            )

    def one(self, key: TrajectoryKey) -> IndexedTrajectory | None:
        """A trajectory; None if the index has none of that key."""
        with self._reading() as connection:
            row = self._row(connection, key)
        return None if row is None else trajectory_of(row)

    def neighbours(self, key: TrajectoryKey, filter: Filter = ALL, order: Order = NEWEST_FIRST) -> Neighbours:
        """What is before and after a trajectory in a list, and its group."""
        sort = order_by(order)
        with self._reading() as connection:
            found = where(connection, filter)
            listed = (
                f"SELECT id, ROW_NUMBER() OVER (ORDER BY {sort}) AS place, LAG(id) OVER (ORDER BY {sort}) AS before, "
                f"LEAD(id) OVER (ORDER BY {sort}) AS after, COUNT(*) OVER () AS total "
                f"FROM trajectories WHERE {found.sql}"
            )
            row = self._row(connection, key)
            if row is None:
                return Neighbours(previous=None, next=None, place=None, total=0, group=())
            at = connection.execute(f"SELECT * FROM ({listed}) WHERE id = ?", (*found.values, row["id"])).fetchone()
            count = f"SELECT COUNT(*) FROM trajectories WHERE {found.sql}"
            total = at["total"] if at else connection.execute(count, found.values).fetchone()[0]
            group = connection.execute(
                "SELECT * FROM trajectories WHERE task = ? AND block = ? ORDER BY sample", (row["task"], row["block"])
            ).fetchall()
            beside = [self._key(connection, at[name]) if at else None for name in ("before", "after")]
        return Neighbours(
            previous=beside[0],
            next=beside[1],
            place=at["place"] if at else None,
            total=total,
            group=tuple(map(trajectory_of, group)),
        )

    def damaged(self, most: int = 100) -> tuple[DamagedRow, ...]:
        """Rows that could not be read, the first ones of many."""
        with self._reading() as connection:
            rows = connection.execute("SELECT segment, line, reason FROM damaged ORDER BY 1, 2 LIMIT ?", (most,))
            return tuple(DamagedRow(row["segment"], row["line"], unescape(row["reason"])) for row in rows)

    def load(self, key: TrajectoryKey) -> Trajectory:
        """Read a trajectory from the store. Raises `UserError` if it is not indexed, or if its row has changed."""
        return read_row(self._line(key))[1]

    def load_excerpt(self, key: TrajectoryKey, turns: range) -> Excerpt:
        """The same with the texts of some turns, which takes a third of the time where there are thousands."""
        return read_excerpt(self._line(key), turns)

    def stored_row(self, key: TrajectoryKey) -> StoredRow:
        """Where a trajectory's row is; raises as `load` does."""
        return read_row(self._line(key))[0]

    def snippets(
        self, key: TrajectoryKey, text: str, text_in: TextPlace = "anywhere", *, most: int = 3
    ) -> list[Snippet]:
        """Where a searched text stands in a trajectory, the first places of many; reads its row."""
        return snippets(passages(read_texts(self._line(key)).trajectory), text, text_in, most)

    def _line(self, key: TrajectoryKey) -> Line:
        with self._reading() as connection:
            row = self._row(connection, key)
        if row is None:
            raise UserError(f"{self.directory} has no trajectory {key}, or it is not indexed yet; see the list")
        path = segment_path(self._folder, row["segment"])
        try:
            with path.open("rb") as file:
                file.seek(row["offset"])
                data = file.readline()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error}); the list follows what is there") from error
        if not sound(data) or seal_of(data) != row["seal"]:
            raise UserError(f"{path}, byte {row['offset']}: the row of {key} has changed; open the list again")
        return Line(path, row["offset"], data)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """One state of the index, for several statements; an empty one if it is of what the store held before."""
        with closing(connect(self._database)) as connection:
            connection.execute("BEGIN")
            if look(connection, self._folder).same:
                yield connection
            else:
                with empty() as nothing:
                    yield nothing

    @staticmethod
    def _row(connection: sqlite3.Connection, key: TrajectoryKey) -> sqlite3.Row | None:
        values = (escape(key.task_id), key.sample)
        return connection.execute("SELECT * FROM trajectories WHERE task = ? AND sample = ?", values).fetchone()

    @staticmethod
    def _key(connection: sqlite3.Connection, id: int | None) -> TrajectoryKey | None:
        row = connection.execute("SELECT task, sample FROM trajectories WHERE id = ?", (id,)).fetchone()
        return None if row is None else key_of(row)
