"""`Delta`: what changed between the tree that was given and the tree that was left, as paths, modes and contents."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

FILE, EXECUTABLE, LINK = 0o100644, 0o100755, 0o120000
"""The modes that git has for what can be in a patch."""


class Blob(NamedTuple):
    """A file at one path."""

    mode: int
    """`FILE`, `EXECUTABLE` or `LINK`."""
    content: bytes
    """The target, for a link."""


@dataclass(frozen=True)
class Change:
    """What became of one path; at least one side is there, and they differ."""

    path: str
    """Relative to the work tree; bytes that are not UTF-8 as surrogate escapes."""
    old: Blob | None
    """None: the path was not there, or was a directory."""
    new: Blob | None
    """None: it is gone, or is a directory."""


@dataclass(frozen=True)
class Delta:
    """The changes of one work tree, sorted by path."""

    changes: tuple[Change, ...] = ()
    left_out: tuple[str, ...] = ()
    """Paths that changed and are no part of it, each as `path (reason)`."""
    patch: str = field(default="", repr=False)
    """The same as a text diff, for stores and people; empty if and only if there are no changes."""
    why_empty: str = ""
    """Why there are no changes, where there may have been some."""


def above(path: str) -> Iterator[str]:
    """The directories that a path lies in, outermost first."""
    at = path.find("/")
    while at >= 0:
        yield path[:at]
        at = path.find("/", at + 1)


def printable(path: str) -> str:
    """A path as text that can be written anywhere: other bytes than UTF-8, and control characters, as escapes."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
