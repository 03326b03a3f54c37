"""Text of anybody's as lines of a log: visible, bounded, and never taken for another line."""

import re
import traceback
from datetime import UTC, datetime

MOST_CHARACTERS = 32_768
"""Longer text loses its middle."""
_TAIL = MOST_CHARACTERS // 4


def utc_now() -> str:
    """The time in UTC with milliseconds, e.g. `2026-11-29T15:40:12.123Z`."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def visible(text: str, *, indent: str = "    ") -> str:
    """`text` with every character that cannot be seen written as an escape (control characters, lone surrogates, marks
    of writing direction), its later lines behind `indent`, and at most `MOST_CHARACTERS` characters of it."""
    if (left_out := len(text) - MOST_CHARACTERS) > 0:
        text = f"{text[: MOST_CHARACTERS - _TAIL]}\n... {left_out:,} characters are left out here ...\n{text[-_TAIL:]}"
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    return f"\n{indent}".join(line if line.isprintable() else _escaped(line) for line in lines)


def _escaped(line: str) -> str:
    line = line.replace("\t", "    ")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line)


def traceback_of(error: BaseException) -> str:
    """The whole traceback of an exception, its causes included."""
    return "".join(traceback.format_exception(error)).rstrip()


def one_word(text: str) -> str:
    """`text` without spaces, so that it is one column."""
    return re.sub(r"\s+", "_", text) or "-"
