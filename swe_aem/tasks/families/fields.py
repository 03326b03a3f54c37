"""`Fields`: typed access to the columns of a row; every error names the row and the column."""

import json
import re
from typing import Any

from swe_aem.core import AnswerKey
from swe_aem.errors import UserError
from swe_aem.tasks.families.log_parsers import PARSERS
from swe_aem.tasks.families.rows import Row

ID = re.compile(r"[^\s/.\\-][^\s/\\]*")
"""Ids become names of files and labels of containers."""
COMMIT = re.compile(r"[0-9a-f]{7,64}")
"""Commit ids become arguments of git."""
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
"""Names of repositories and their owners become parts of paths and images."""

_DURATION = re.compile(
    r"\[\s*\d+(?:\.\d+)?\s*m?s\s*\]$|\(\s*\d+(?:\.\d+)?\s*m?s\s*\)$|\bin\s+\d+(?:\.\d+)?\s+m?sec\b", re.IGNORECASE
)
"""Durations that runners print with a test's name, as SWE-rebench-V2 lists them (scripts/eval.py)."""


class Fields:
    """One row. Methods raise `UserError` with the row's place and the column if a value is wrong."""

    def __init__(self, where: str, row: Row) -> None:
        self.where = where
        self._row = row

    def fail(self, column: str, problem: str) -> UserError:
        """The error to raise about a column."""
        return UserError(f"{self.where}: field {column!r} {problem}")

    def has(self, column: str) -> bool:
        """Does the column have a value that is not empty?"""
        return self._row.get(column) not in (None, "")

    def value(self, column: str) -> Any:
        """The column's value; it must not be missing."""
        if self._row.get(column) is None:
            raise self.fail(column, "is missing")
        return self._row[column]

    def text(self, column: str) -> str:
        """A string that is not blank."""
        value = self.value(column)
        if not isinstance(value, str):
            raise self.fail(column, f"is {_kind(value)}, not a string")
        if not value.strip():
            raise self.fail(column, "is empty")
        self._check_text(column, value)
        return value

    def _check_text(self, column: str, value: str) -> None:
        """Refuse text that cannot be written to a file: JSON allows half of a surrogate pair."""
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise self.fail(column, f"has half of a surrogate pair at character {error.start}") from error

    def matching(self, column: str, pattern: re.Pattern[str], what: str) -> str:
        """A string that matches a pattern."""
        value = self.text(column)
        if not pattern.fullmatch(value):
            raise self.fail(column, f"is {value!r}, not {what}")
        return value

    def id(self, column: str = "instance_id") -> str:
        """A task id that can be the name of a file."""
        return self.matching(column, ID, "a plain name without white space or slashes")

    def commit(self, column: str = "base_commit") -> str:
        """A commit id."""
        return self.matching(column, COMMIT, "a commit id in hexadecimal digits")

    def choice(self, column: str, allowed: tuple[str, ...]) -> str:
        """One of a few strings."""
        value = self.text(column)
        if value not in allowed:
            raise self.fail(column, f"is {value!r}, not one of {', '.join(allowed)}")
        return value

    def parser(self, column: str = "log_parser") -> str:
        """The name of a log parser that exists."""
        return self.known_parser(column, self.text(column))

    def known_parser(self, column: str, name: str) -> str:
        """`name`, if a log parser has it; `column` is where the name came from."""
        if name not in PARSERS:
            raise self.fail(column, f"is {name!r}, which is not a log parser; `swe-aem docs datasets` lists them")
        return name

    def version(self) -> str:
        """The version as text; some data sets store it as a number."""
        value = self.value("version")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self.fail("version", f"is {_kind(value)}, not a string or a number")
        return str(value)

    def timeout(self, default_s: float = AnswerKey.model_fields["timeout_s"].default) -> float:
        """The limit of an evaluation in seconds: the column `timeout_s`, which users may add, or the default."""
        value = self._row.get("timeout_s", default_s)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise self.fail("timeout_s", "is not a positive number of seconds")
        return float(value)

    def names(self, column: str, *, required: bool) -> tuple[str, ...]:
        """A list of test names, or the same as a JSON string, or as an array that has `tolist`."""
        value = self.value(column)
        if isinstance(value, str):
            value = self._json(column, "list")
        elif hasattr(value, "tolist"):  # numpy, through pandas
            value = value.tolist()
        if not isinstance(value, list | tuple):
            raise self.fail(column, f"is {_kind(value)}, not a list of test names")
        for number, name in enumerate(value, start=1):
            if not isinstance(name, str) or not name:
                raise self.fail(column, f"has as entry {number} {_kind(name)}, not a test name")
            self._check_text(column, name)
        if required and not value:
            raise self.fail(column, "is empty: at least one test must fail before the fix and pass after it")
        return tuple(value)

    def commands(self, column: str, value: Any, *, required: bool = True) -> tuple[str, ...]:
        """Shell commands, a line or several each: one string, or a list of such. `column` is where `value` stands."""
        if hasattr(value, "tolist"):
            value = value.tolist()
        if not required and value in (None, "", [], ()):
            return ()
        commands = [value] if isinstance(value, str) else value
        fits = isinstance(commands, list | tuple) and all(isinstance(one, str) and one.strip() for one in commands)
        if not fits or not commands:
            raise self.fail(column, f"is {value!r:.80}, not a command or a list of commands")
        for one in commands:
            self._check_text(column, one)
        return tuple(commands)

    def names_that_last(self, column: str, *, required: bool) -> tuple[str, ...]:
        """`names`, where a log of another run has the same ones: without a duration, or white space at an end."""
        names = self.names(column, required=required)
        for name in names:
            if name != name.strip() or _DURATION.search(name):
                raise self.fail(
                    column, f"has {name!r}, and a name with a duration or white space at an end differs from run to run"
                )
        return names

    def object(self, column: str) -> dict[str, Any]:
        """A dictionary, or the same as a JSON string; keys without a value are left out, as Parquet adds such."""
        value = self.value(column)
        if isinstance(value, str):
            value = self._json(column, "object")
        if not isinstance(value, dict):
            raise self.fail(column, f"is {_kind(value)}, not an object")
        return {key: entry for key, entry in value.items() if entry is not None}

    def _json(self, column: str, what: str) -> Any:
        try:
            return json.loads(self._row[column])
        except json.JSONDecodeError as error:
            raise self.fail(column, f"is a string that is not a JSON {what} ({error})") from error


def _kind(value: Any) -> str:
    """A wrong value's type, for an error message."""
    return "an empty string" if value == "" else f"of type {type(value).__name__}"
