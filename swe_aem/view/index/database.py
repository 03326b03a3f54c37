"""The database of an index: its tables, where it lies, and how it is opened.

It lies in the cache folder, for all of it can be made again from the store. Its name has the store's resolved path, the
host, because SQLite's log does not work across hosts, and the version of the tables.
"""

import atexit
import hashlib
import os
import platform
import re
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from swe_aem.cache import cache_dir
from swe_aem.core.scratch import scratch_directory
from swe_aem.errors import UserError

VERSION = 2
"""The version of the tables; an index of another one is made again."""
FOLDER = "view"
WAIT_S = 60.0
"""How long a writer waits for another one."""

TABLES = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS segments (
    name TEXT PRIMARY KEY, number INTEGER NOT NULL, inode INTEGER NOT NULL, size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, done INTEGER NOT NULL, lines INTEGER NOT NULL, tail BLOB NOT NULL,
    torn INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS damaged (
    segment TEXT NOT NULL, line INTEGER NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (segment, line)
);
CREATE TABLE IF NOT EXISTS trajectories (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    task TEXT NOT NULL, sample INTEGER NOT NULL, block INTEGER NOT NULL, step INTEGER, attempt INTEGER NOT NULL,
    outcome TEXT NOT NULL, reward REAL, counts INTEGER NOT NULL, resolved INTEGER NOT NULL, official INTEGER,
    agent TEXT NOT NULL, model TEXT NOT NULL, stop TEXT, first_version INTEGER, last_version INTEGER,
    turns INTEGER NOT NULL, tool_calls INTEGER NOT NULL, malformed_calls INTEGER NOT NULL, tokens INTEGER NOT NULL,
    sampled_tokens INTEGER NOT NULL, branches INTEGER NOT NULL, patch_bytes INTEGER NOT NULL,
    patch_files INTEGER NOT NULL, has_log INTEGER NOT NULL, cause TEXT, total_s REAL, agent_s REAL, grade_s REAL,
    segment INTEGER NOT NULL, line INTEGER NOT NULL, offset INTEGER NOT NULL, format INTEGER NOT NULL,
    seal TEXT NOT NULL, response_rewards TEXT, error TEXT, integrity TEXT NOT NULL, tools TEXT NOT NULL,
    labels TEXT NOT NULL, files TEXT NOT NULL, timings TEXT NOT NULL, scored TEXT NOT NULL,
    UNIQUE (task, sample)
);
CREATE TABLE IF NOT EXISTS tools (
    name TEXT NOT NULL, trajectory INTEGER NOT NULL, PRIMARY KEY (name, trajectory)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS labels (
    name TEXT NOT NULL, trajectory INTEGER NOT NULL, PRIMARY KEY (name, trajectory)
) WITHOUT ROWID;
CREATE VIRTUAL TABLE IF NOT EXISTS texts USING fts5(
    conversation, patch, failure, content='', tokenize='unicode61 remove_diacritics 0'
);
"""


class Place(NamedTuple):
    """Where an index lies."""

    path: Path
    note: str | None
    """Why it lies in a temporary file; None if it lies in the cache."""


_TEMPORARY: dict[Path, Place] = {}
"""Places in temporary folders, by where they would be in the cache; for this process."""
_UNTIL_EXIT = ExitStack()
"""Those folders."""
atexit.register(_UNTIL_EXIT.close)


def place_of(store: Path) -> Place:
    """Where the index of a store lies; its folder is there and can be written."""
    folder = cache_dir() / FOLDER
    name = _name(store)
    if (folder / name) in _TEMPORARY:
        return _TEMPORARY[folder / name]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _create(folder / name)
    except (OSError, sqlite3.OperationalError) as error:
        temporary = _UNTIL_EXIT.enter_context(scratch_directory("view"))
        _create(temporary / name)
        note = (
            f"{folder} cannot be written ({error}): the index of {store} is in a temporary file, and is made again "
            "when the viewer starts again; SWE_AEM_CACHE names another folder"
        )
        place = _TEMPORARY[folder / name] = Place(temporary / name, note)
        return place
    return Place(folder / name, None)


def connect(path: Path) -> sqlite3.Connection:
    """A connection to the database, each statement on its own unless within `writing`."""
    connection = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


@contextmanager
def empty() -> Iterator[sqlite3.Connection]:
    """A database with all tables and no row."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.row_factory = sqlite3.Row
        connection.executescript(TABLES)
        yield connection


@contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[None]:
    """One transaction, alone among writers; undone if it raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def clear(connection: sqlite3.Connection) -> None:
    """Take everything out; within `writing`."""
    for table in ("facts", "segments", "damaged", "trajectories", "tools", "labels"):
        connection.execute(f"DELETE FROM {table}")
    connection.execute("INSERT INTO texts (texts) VALUES ('delete-all')")


def _name(store: Path) -> str:
    resolved = os.fsencode(store.resolve())
    digest = hashlib.sha256(resolved + b"\0" + platform.node().encode()).hexdigest()[:20]
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", os.fsdecode(resolved).encode("ascii", "replace").decode())[-60:]
    return f"{readable.strip('-')}-{digest}.v{VERSION}.sqlite"


def _create(path: Path) -> None:
    """Make the tables unless they are there; a file that is no database is replaced."""
    try:
        if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK) and _has_tables(path):
            return  # without waiting for who writes it
        _create_tables(path)
    except sqlite3.OperationalError as error:
        if "fts5" in str(error):
            raise UserError(
                f"this Python's SQLite {sqlite3.sqlite_version} has no full-text search (FTS5); run swe-aem with a "
                "Python that has it, such as those that `uv python install` gives"
            ) from error
        raise
    except sqlite3.DatabaseError:
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        _create_tables(path)


def _has_tables(path: Path) -> bool:
    with closing(sqlite3.connect(path, timeout=WAIT_S)) as connection:
        return connection.execute("SELECT COUNT(*) FROM sqlite_master WHERE name = 'texts'").fetchone()[0] > 0


def _create_tables(path: Path) -> None:
    with closing(sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(f"BEGIN IMMEDIATE; {TABLES} COMMIT;")
