"""`Reading`: the context in which the rows of one source are read. `LeftOut`: a row of it that cannot be a task."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from swe_aem.errors import UserError
from swe_aem.tasks.families.specs_file import Specs

_SHOWN_REASONS = 3
_SHOWN_NAMES = 3


class SourceError(UserError):
    """A problem of what rows are read with, such as a specs file: it is no single row's."""


@dataclass(frozen=True)
class Reading:
    """The context of rows: the split they belong to, and the specs file beside them."""

    split: str | None = None
    specs: Specs = field(default_factory=Specs)
    """How to test repositories whose rows lack the commands."""
    directory: Path | None = None
    """The directory of the rows' file, which paths in rows are relative to; None for rows of the hub."""


class LeftOut(NamedTuple):
    """A row, or a task folder, that is not a task of its set."""

    id: str
    """The id that it claims; empty if it has none."""
    where: str
    """Its place: file and line, or folder."""
    reason: str

    @property
    def name(self) -> str:
        """What a person calls it: its id, else its place."""
        return printable(self.id or self.where)


def printable(text: str) -> str:
    """Text of a row as a terminal and any file can take it: line ends, control characters and such are escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def left_out_note(source: str, left_out: Sequence[LeftOut], total: int) -> str:
    """One line that counts the rows left out of `total`, and names the first of them with their reasons."""
    by_reason: dict[str, list[LeftOut]] = defaultdict(list)
    for row in left_out:
        by_reason[row.reason].append(row)
    most = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    shown = [f"{_names(rows)}: {reason}" for reason, rows in most[:_SHOWN_REASONS]]
    more = sum(len(rows) for _, rows in most[_SHOWN_REASONS:])
    told = "; ".join([*shown, *([f"and {more} more for other reasons"] if more else [])])
    return (
        f"{source}: {len(left_out)} of {total} rows cannot be tasks and are left out: {told} "
        f"(all: `swe-aem tasks list --tasks {source} --json`)"
    )


def none_left(left_out: Sequence[LeftOut]) -> str:
    """The error for a source whose rows are all left out, of which there is at least one."""
    first = left_out[0]
    if len(left_out) == 1:
        return f"{first.where}: {first.reason}"
    return f"none of the {len(left_out)} rows can be a task; the first is {first.where}: {first.reason}"


def _names(rows: Sequence[LeftOut]) -> str:
    more = f" and {len(rows) - _SHOWN_NAMES} more" if len(rows) > _SHOWN_NAMES else ""
    return ", ".join(row.name for row in rows[:_SHOWN_NAMES]) + more
