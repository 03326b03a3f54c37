"""`IndexBuilder`: reads a store's rows into its index, a stretch at a time.

Each stretch is one transaction, which begins with a look at the segments: they must still begin with what is indexed,
or everything is taken out and read again. A killed process loses its stretch, and two processes take turns. The newest
segment is read first. One row is in memory at a time.
"""

import json
import os
import sqlite3
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from swe_aem.store.segments import Line, segment_number, segment_path, segments, sound
from swe_aem.store.store import read_texts
from swe_aem.store.surrogates import escape
from swe_aem.view.index.database import clear, connect, writing
from swe_aem.view.index.measure import Measured, measured
from swe_aem.view.index.training import Grouping, changed_when, grouping_of
from swe_aem.view.index.words import COLUMNS

STRETCH_S = 0.5
_TAIL_BYTES = 80
"""The end of what is indexed of a segment is compared: a line ends with its checksum."""

_REASON_CHARACTERS = 500


class Segment(NamedTuple):
    """A segment as the index knows it."""

    name: str
    number: int
    inode: int
    size: int
    mtime_ns: int
    """With `size`, as it was when it was last read to its end; 0 before."""
    done: int
    """Bytes that are indexed."""
    lines: int
    """Lines in those."""
    tail: bytes
    """The last of those bytes."""
    torn: bool
    """Is what follows no whole line, so that a later look may find more?"""


class Seen(NamedTuple):
    """The segments of a store, as they are and as the index knows them."""

    known: list[Segment]
    """In order; new ones have nothing done."""
    sizes: dict[str, int]
    """Bytes of each now."""
    unread: list[Segment]
    """Those among them in which there is something to read."""
    same: bool
    """Do all begin with what is indexed of them? Otherwise nothing of the index holds."""

    @property
    def bytes_done(self) -> int:
        """Bytes that need no reading now."""
        return sum(self.sizes[one.name] if one.torn else one.done for one in self.known)

    @property
    def bytes_total(self) -> int:
        """Bytes of all segments."""
        return sum(self.sizes.values())


def look(connection: sqlite3.Connection, folder: Path) -> Seen:
    """Compare a store's segments with what the index knows."""
    indexed = {row["name"]: Segment(*row) for row in connection.execute("SELECT * FROM segments")}
    known, unread, sizes, same = [], [], {}, True
    paths = segments(folder)
    for path in paths:
        try:
            stat = path.stat()
        except FileNotFoundError:  # a store that is being removed
            continue
        segment = indexed.pop(path.name, None) or _new(path, stat.st_ino)
        read_through = (segment.size, segment.mtime_ns) == (stat.st_size, stat.st_mtime_ns)
        same = same and segment.inode == stat.st_ino and (read_through or _begins(path, segment, stat))
        if not read_through or (segment.torn and path != paths[-1]):
            unread.append(segment)
        known.append(segment)
        sizes[path.name] = stat.st_size
    return Seen(known, sizes, unread, same and not indexed)


def _new(path: Path, inode: int) -> Segment:
    return Segment(path.name, segment_number(path), inode, 0, 0, 0, 0, b"", False)


def _begins(path: Path, segment: Segment, stat: os.stat_result) -> bool:
    """Does the file still begin with what is indexed of it? One that was changed at the same size does not."""
    if stat.st_size < segment.done or (segment.mtime_ns and stat.st_size == segment.size):
        return False
    with path.open("rb") as file:
        file.seek(segment.done - len(segment.tail))
        return file.read(len(segment.tail)) == segment.tail


class IndexBuilder:
    """Fills the index of one store."""

    def __init__(self, store: Path, database: Path) -> None:
        self._store = store
        self._folder = store / "trajectories"
        self._connection = connect(database)
        self._grouping: Grouping | None = None
        self._grouping_read: tuple[int, ...] = ()

    def stretch(self, seconds: float = STRETCH_S) -> bool:
        """Index for about so long; is there more to do?"""
        began = time.perf_counter()
        connection = self._connection
        with writing(connection):
            seen = look(connection, self._folder)
            if not seen.same:
                clear(connection)
                seen = look(connection, self._folder)
            grouping = self._current_grouping()
            write_facts(
                connection, group_size=grouping.size, limits_reward=grouping.limits_reward, wanted=grouping.wanted
            )
            read_bytes, more = 0, False
            for segment in reversed(seen.unread):
                if more := more or (read_bytes > 0 and time.perf_counter() - began > seconds):
                    break
                reader = _SegmentReader(connection, self._store, grouping, segment, is_last=segment is seen.known[-1])
                more = not reader.read(until=began + seconds)
                read_bytes += reader.done - segment.done
            if read_bytes:
                write_facts(connection, bytes_per_s=read_bytes / (time.perf_counter() - began))
        return more

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def _current_grouping(self) -> Grouping:
        now = changed_when(self._store)
        if self._grouping is None or now != self._grouping_read:
            self._grouping, self._grouping_read = grouping_of(self._store), now
        return self._grouping


class _SegmentReader:
    """Reads one segment from where the index has got to."""

    def __init__(
        self, connection: sqlite3.Connection, store: Path, grouping: Grouping, segment: Segment, *, is_last: bool
    ) -> None:
        self._connection = connection
        self._store = store
        self._grouping = grouping
        self._segment = segment
        self._is_last = is_last
        self._path = store / "trajectories" / segment.name
        self._lines = segment.lines
        self.done = segment.done
        """Bytes that are indexed."""

    def read(self, until: float) -> bool:
        """Index lines until that moment of `time.perf_counter`, one at least; is the segment read to its end?"""
        with self._path.open("rb") as file:
            stat = os.fstat(file.fileno())
            file.seek(self.done)
            torn = False
            while self.done < stat.st_size and not torn:
                data = file.readline()
                if torn := self._is_torn(data, stat.st_size):
                    continue
                self._lines += 1
                self._take(Line(self._path, self.done, data))
                self.done += len(data)
                if time.perf_counter() > until:
                    break
            ended = torn or self.done >= stat.st_size
            file.seek(max(0, self.done - _TAIL_BYTES))
            tail = file.read(min(self.done, _TAIL_BYTES))
        seen = (stat.st_size, stat.st_mtime_ns) if ended else (0, 0)
        segment = (self._segment.name, self._segment.number, stat.st_ino, *seen, self.done, self._lines, tail, torn)
        self._connection.execute(f"INSERT OR REPLACE INTO segments VALUES ({_marks(segment)})", segment)
        return ended

    def _is_torn(self, data: bytes, size: int) -> bool:
        """Is it the end of the store, and no whole line? It may be that it is being written."""
        return self._is_last and self.done + len(data) >= size and not sound(data)

    def _take(self, line: Line) -> None:
        if not sound(line.data):
            self._damaged(self._lines, "its checksum does not fit")
            return
        try:
            row = read_texts(line)
            trajectory = row.trajectory
            versions = [response.last_version for response in trajectory.responses]
            found = measured(
                row,
                self._store,
                block=self._grouping.block_of(trajectory.sample),
                step=self._grouping.step_of(trajectory.task_id, trajectory.sample, versions),
            )
        except Exception as error:
            self._damaged(self._lines, f"{type(error).__name__}: {error}")
            return
        where = {
            "segment": self._segment.number,
            "line": self._lines,
            "offset": line.offset,
            "format": row.place.format,
            "seal": seal_of(line.data),
        }
        if self._is_first(found):
            self._insert(found, where)

    def _is_first(self, found: Measured) -> bool:
        """Is there no earlier row of that trajectory? A later one is taken out."""
        key = (found.columns["task"], found.columns["sample"])
        other = self._connection.execute(
            "SELECT id, segment, line FROM trajectories WHERE task = ? AND sample = ?", key
        ).fetchone()
        if other is None:
            return True
        reason = f"a second record of task {key[0]} sample {key[1]}; delete one of the two lines"
        if (other["segment"], other["line"]) < (self._segment.number, self._lines):
            self._damaged(self._lines, reason)
            return False
        self._damaged(other["line"], reason, segment_path(Path(), other["segment"]).name)
        for table, column in (("trajectories", "id"), ("tools", "trajectory"), ("labels", "trajectory")):
            self._connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (other["id"],))
        return True

    def _insert(self, found: Measured, where: dict[str, Any]) -> None:
        columns = found.columns | where
        id = self._connection.execute(
            f"INSERT INTO trajectories ({', '.join(columns)}) VALUES ({_marks(columns)})", tuple(columns.values())
        ).lastrowid
        for table, names in (("tools", found.tools), ("labels", found.labels)):
            self._connection.executemany(f"INSERT INTO {table} VALUES (?, ?)", [(name, id) for name in names])
        self._connection.execute(
            f"INSERT INTO texts (rowid, {', '.join(COLUMNS)}) VALUES ({_marks(COLUMNS)}, ?)", (id, *found.texts)
        )

    def _damaged(self, line: int, reason: str, name: str | None = None) -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO damaged VALUES (?, ?, ?)",
            (name or self._segment.name, line, escape(reason[:_REASON_CHARACTERS])),
        )


def write_facts(connection: sqlite3.Connection, **facts: Any) -> None:
    """Keep values by name; those of these names before are replaced."""
    connection.executemany(
        "INSERT OR REPLACE INTO facts VALUES (?, ?)", [(name, json.dumps(value)) for name, value in facts.items()]
    )


def read_facts(connection: sqlite3.Connection) -> dict[str, Any]:
    """All values by name."""
    return {row["name"]: json.loads(row["value"]) for row in connection.execute("SELECT name, value FROM facts")}


def seal_of(line: bytes) -> str:
    """The checksum of a sound line."""
    return line[-66:-3].decode("ascii", "replace")


def _marks(values: Collection[object]) -> str:
    return ", ".join("?" * len(values))
