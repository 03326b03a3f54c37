"""`Store`: terminal trajectories in a directory, each exactly once, whatever was killed whenever.

    DIR/README.md                        dataset card: `datasets.load_dataset(DIR)` works as the store lies
    DIR/trajectories/part-00000.jsonl    one checksummed line per trajectory; a new part when one is full
    DIR/logs/TASK.SAMPLE.zip             the log behind a verdict, `swe_aem.store.logs`
    DIR/failures.jsonl                   attempts that failed, `swe_aem.store.failures`
    DIR/phases.jsonl                     when each phase of each attempt began, `swe_aem.store.phases`
    DIR/run.log                          what the run did, line by line, `swe_aem.runlog`
    DIR/quarantine/                      torn lines that a crash left, kept for a person

`Store(DIR)` reads; `with Store(DIR).writer() as writer` holds the directory's lock, repairs and appends.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import from_json

from swe_aem.core import Outcome, Trajectory, TrajectoryKey
from swe_aem.errors import UserError
from swe_aem.store.dataset_card import dataset_card
from swe_aem.store.files import locked, replace
from swe_aem.store.logs import keep_log
from swe_aem.store.sealed_line import check_line, read_head, seal_trajectory
from swe_aem.store.segments import Appender, Line, quarantine_torn_end, read_lines
from swe_aem.store.trajectory_row import Excerpt, excerpt, from_row, without_tokens
from swe_aem.store.upgrade import FORMAT, require_readable, require_resumable, upgrade_row

_CARD_EVERY_S = 1.0
"""The card says how many records there are; that often is enough, for it takes two of a record's three syncs."""

_TOKEN_IDS, _BRANCHES = b', "token_ids": [', b', "branches": "'
"""Keys of a row; in a string, their quotes have a backslash before them. Between them are numbers and base64."""


class StoredRow(NamedTuple):
    """Where a trajectory's row is, its format, and how the trajectory ended."""

    path: Path
    offset: int
    outcome: Outcome
    format: int


def existing_store(directory: Path) -> "Store":
    """The store in a directory; raises `UserError` if there is no such directory."""
    if not directory.is_dir():
        raise UserError(f"{directory}: no such directory; name the --out of a rollout")
    return Store(directory)


class Store:
    """Reads a store. Safe while another process writes: a line that is being written is not seen."""

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self.folder = self.directory / "trajectories"

    def trajectories(self) -> Iterator[Trajectory]:
        """Every trajectory in the order of writing; raises `UserError` with file and line for a damaged record."""
        for line in read_lines(self.folder):
            yield read_row(line)[1]

    def index(self) -> dict[TrajectoryKey, StoredRow]:
        """Every row's place and outcome, after verifying every checksum; raises `UserError` as `trajectories` does."""
        rows: dict[TrajectoryKey, StoredRow] = {}
        for line in read_lines(self.folder):
            key, row = _head(line)
            if key in rows:
                raise UserError(
                    f"{line.path}, byte {line.offset}: a second record of task {key[0]} sample {key[1]}, which is "
                    f"already in {rows[key].path} at byte {rows[key].offset}; delete one of the two lines"
                )
            rows[key] = row
        return rows

    def completed(self) -> frozenset[TrajectoryKey]:
        """Keys of all records."""
        return frozenset(self.index())

    def groups(self, block: int | None = None) -> Iterator[tuple[str, tuple[Trajectory, ...]]]:
        """Task id and trajectories, ordered by sample, for each group in the order of first writing; one group in
        memory at a time. A group is all samples of a task, or where `block` is given each `block` of them: training
        rolls a task out once per epoch."""
        members: dict[tuple[str, int], list[tuple[int, StoredRow]]] = {}
        for (task_id, sample), row in self.index().items():
            members.setdefault((task_id, sample // block if block else 0), []).append((sample, row))
        for (task_id, _), found in members.items():
            yield task_id, tuple(self.load(row) for _, row in sorted(found))

    def load(self, row: StoredRow) -> Trajectory:
        """The trajectory of a row in `index`."""
        return from_row(_row_at(row))

    def load_excerpt(self, row: StoredRow, turns: range) -> Excerpt:
        """The trajectory of a row in `index`, with the texts of some turns."""
        return excerpt(_row_at(row), turns)

    @contextmanager
    def writer(self, *, segment_bytes: int = 128 << 20) -> Iterator["StoreWriter"]:
        """Lock, repair and open for appending; creates the directory. Raises `UserError` if another process writes it,
        if a record in the middle is damaged, or if the store is of an older format."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.directory):
            rows = self.index()
            require_resumable(min((row.format for row in rows.values()), default=FORMAT), self.directory)
            torn = quarantine_torn_end(self.folder, self.directory / "quarantine")
            appender = Appender(self.folder, segment_bytes)
            try:
                writer = StoreWriter(self, appender, rows, torn)
                try:
                    yield writer
                finally:
                    with suppress(OSError):  # a full disk has ended the run already; the next writer's card is right
                        writer.write_card()
            finally:
                appender.close()


class StoreWriter:
    """Appends to a locked store. Made by `Store.writer`."""

    def __init__(
        self, store: Store, appender: Appender, rows: dict[TrajectoryKey, StoredRow], quarantined: Path | None
    ) -> None:
        self.store = store
        self.rows = rows
        """Every row of the store, those of earlier runs included."""
        self.quarantined = quarantined
        """The file that holds the torn line found on opening, if there was one."""
        self._appender = appender
        self._card = threading.Lock()
        self._card_records = -1
        """How many records the card speaks of."""
        self._card_s = 0.0
        self.write_card()

    def append(self, trajectory: Trajectory, log: bytes = b"") -> None:
        """Store a terminal trajectory, and the log of its evaluation if there is one; durable on return.

        Raises `ValueError` as `seal_trajectory` and `append_line` do.
        """
        self.append_line(seal_trajectory(trajectory), log)

    def append_line(self, line: bytes, log: bytes = b"") -> None:
        """Store a terminal trajectory that `seal_trajectory` has made a line of, as it is; durable on return.

        Raises `ValueError` for a line that is damaged or of another format, and for a key that is already there.
        """
        head = check_line(line)
        if head.key in self.rows:
            raise ValueError(f"{head.key} is already in {self.store.directory}")
        keep_log(self.store.directory, head.key, log)
        path, offset = self._appender.append(line)
        self.rows[head.key] = StoredRow(path, offset, head.outcome, head.format)
        if time.monotonic() - self._card_s >= _CARD_EVERY_S:
            self.write_card()

    def write_card(self) -> None:
        """Bring the dataset card up to date if records came since it was written: it may be late while records come.
        May be called from another thread than `append_line`."""
        with self._card:
            records = len(self.rows)
            if records != self._card_records:
                replace(self.store.directory / "README.md", dataset_card(records))
                self._card_records, self._card_s = records, time.monotonic()


def read_row(line: Line) -> tuple[StoredRow, Trajectory]:
    """Place and content of a sound line; raises `UserError` for one of a format that cannot be read, and `ValueError`,
    `KeyError` or `TypeError` for one that is no trajectory."""
    _, row = _head(line)
    return row, from_row(upgrade_row(json.loads(line.data)))


def read_excerpt(line: Line, turns: range) -> Excerpt:
    """What `excerpt` makes of a sound line. Raises as `read_row` does."""
    _head(line)
    try:
        row = from_json(line.data)  # twice as fast as `json`, and half the memory
    except ValueError:  # it takes no lone surrogates, which rows of before may hold
        row = json.loads(line.data)
    return excerpt(upgrade_row(row), turns)


class RowTexts(NamedTuple):
    """A row without its token ids, log-probabilities and routed experts."""

    place: StoredRow
    trajectory: Trajectory
    """What `without_tokens` gives."""
    token_ids: int
    """How many token ids were left out."""


def read_texts(line: Line) -> RowTexts:
    """What `read_row` reads, but for token ids and log-probabilities: several times as fast. Raises as it does."""
    _, place = _head(line)
    data = line.data
    start = data.find(_TOKEN_IDS)
    end = data.find(b"]", start)
    rest = data.find(_BRANCHES, end)
    if place.format != FORMAT or min(start, end, rest) < 0:
        trajectory = read_row(line)[1]
        return RowTexts(place, trajectory, len(trajectory.token_ids))
    ids = data[start + len(_TOKEN_IDS) : end]
    trajectory = without_tokens(json.loads(data[:start] + data[rest:]))
    return RowTexts(place, trajectory, ids.count(b",") + 1 if ids else 0)


def _row_at(row: StoredRow) -> dict[str, Any]:
    with row.path.open("rb") as file:
        file.seek(row.offset)
        return upgrade_row(json.loads(file.readline()))


def _head(line: Line) -> tuple[TrajectoryKey, StoredRow]:
    head = read_head(line.data)
    where = f"{line.path}, byte {line.offset}"
    if head is None:
        raise UserError(f"{where}: not a record of a store; restore the file from a copy, or choose another directory")
    require_readable(head.format, where)
    return head.key, StoredRow(line.path, line.offset, head.outcome, head.format)
