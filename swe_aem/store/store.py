"""`Store`: terminal trajectories in a directory, each exactly once, whatever was killed whenever.

    DIR/README.md                        dataset card: `datasets.load_dataset(DIR)` works as the store lies
    DIR/trajectories/part-00000.jsonl    one checksummed line per trajectory; a new part when one is full
    DIR/quarantine/                      torn lines that a crash left, kept for a person

`Store(DIR)` reads; `with Store(DIR).writer() as writer` holds the directory's lock, repairs and appends.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from swe_aem.core import Outcome, Trajectory, TrajectoryKey
from swe_aem.errors import UserError
from swe_aem.store.card import card
from swe_aem.store.files import locked, replace
from swe_aem.store.rows import FORMAT, from_row, to_row
from swe_aem.store.segments import Appender, Line, quarantine_torn_end, read_lines, seal
from swe_aem.store.text import unescape

_HEAD = re.compile(
    rb'\{"format": (\d+), "task_id": ("(?:[^"\\]|\\.)*"), "sample": (\d+), "attempt": \d+, "outcome": "(\w+)"'
)


class Entry(NamedTuple):
    """Where a record is, and how it ended."""

    path: Path
    offset: int
    outcome: Outcome


def stored(directory: Path) -> "Store":
    """A store to read; raises `UserError` if there is no such directory."""
    if not directory.is_dir():
        raise UserError(f"{directory}: no such directory")
    return Store(directory)


class Store:
    """Reads a store. Safe while another process writes: a line that is being written is not seen."""

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self.folder = self.directory / "trajectories"

    def trajectories(self) -> Iterator[Trajectory]:
        """Every trajectory in the order of writing; raises `UserError` with file and line for a damaged record."""
        for line in read_lines(self.folder):
            yield from_row(json.loads(line.data))

    def index(self) -> dict[TrajectoryKey, Entry]:
        """Place and outcome of every record, after verifying every checksum; raises `UserError` as `trajectories`."""
        entries: dict[TrajectoryKey, Entry] = {}
        for line in read_lines(self.folder):
            key, outcome = _head(line)
            if key in entries:
                raise UserError(
                    f"{line.path}, byte {line.offset}: a second record of task {key[0]} sample {key[1]}, which is "
                    f"already in {entries[key].path} at byte {entries[key].offset}; delete one of the two lines"
                )
            entries[key] = Entry(line.path, line.offset, outcome)
        return entries

    def completed(self) -> frozenset[TrajectoryKey]:
        """Keys of all records."""
        return frozenset(self.index())

    def groups(self, block: int | None = None) -> Iterator[tuple[str, tuple[Trajectory, ...]]]:
        """Task id and trajectories, ordered by sample, for each group in the order of first writing; one group in
        memory at a time. A group is a task, or where `block` is given `block` samples of one: a visit in training."""
        members: dict[tuple[str, int], list[tuple[int, Entry]]] = {}
        for (task_id, sample), entry in self.index().items():
            members.setdefault((task_id, sample // block if block else 0), []).append((sample, entry))
        for (task_id, _), found in members.items():
            yield task_id, tuple(self.load(entry) for _, entry in sorted(found))

    def load(self, entry: Entry) -> Trajectory:
        """The trajectory at an index entry."""
        with entry.path.open("rb") as file:
            file.seek(entry.offset)
            return from_row(json.loads(file.readline()))

    @contextmanager
    def writer(self, *, segment_bytes: int = 128 << 20) -> Iterator["StoreWriter"]:
        """Lock, repair and open for appending; creates the directory. Raises `UserError` if another process writes it
        or a record in the middle is damaged."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.directory):
            torn = quarantine_torn_end(self.folder, self.directory / "quarantine")
            entries = self.index()
            appender = Appender(self.folder, segment_bytes)
            try:
                yield StoreWriter(self, appender, entries, torn)
            finally:
                appender.close()


class StoreWriter:
    """Appends to a locked store. Made by `Store.writer`."""

    def __init__(
        self, store: Store, appender: Appender, entries: dict[TrajectoryKey, Entry], quarantined: Path | None
    ) -> None:
        self.store = store
        self.entries = entries
        """Every record of the store, those of earlier runs included."""
        self.quarantined = quarantined
        """The file that holds the torn line found on opening, if there was one."""
        self._appender = appender
        self._write_card()

    def append(self, trajectory: Trajectory) -> None:
        """Store a terminal trajectory; durable on return.

        Raises `ValueError` for a trajectory without outcome, a key that is already there, or a float that is not
        finite: each is a bug of the caller.
        """
        key = trajectory.key
        if trajectory.outcome is None:
            raise ValueError(f"{trajectory.id} has no outcome yet")
        if key in self.entries:
            raise ValueError(f"{trajectory.id} is already in {self.store.directory}")
        body = json.dumps(to_row(trajectory), allow_nan=False).encode("ascii")
        path, offset = self._appender.append(seal(body))
        self.entries[key] = Entry(path, offset, trajectory.outcome)
        self._write_card()

    def _write_card(self) -> None:
        replace(self.store.directory / "README.md", card(len(self.entries)))


def _head(line: Line) -> tuple[TrajectoryKey, Outcome]:
    match = _HEAD.match(line.data)
    if match is None or int(match[1]) != FORMAT:
        raise UserError(
            f"{line.path}, byte {line.offset}: not a record of store format {FORMAT}; read it with the version of "
            "swe-aem that wrote it, or choose another directory"
        )
    return TrajectoryKey(unescape(json.loads(match[2])), int(match[3])), Outcome(match[4].decode())
