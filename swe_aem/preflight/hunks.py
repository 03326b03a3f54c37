"""Where two texts of a file differ: lines and hunks, as a diff has them."""

import difflib
from typing import NamedTuple

_CONTEXT_LINES = 3
"""Changes that are nearer to each other are one hunk, as in git's diffs."""


class Hunk(NamedTuple):
    """One place where lines differ; positions count lines from 0, ends are excluded."""

    old_start: int
    old_end: int
    new_start: int
    new_end: int


def changed_lines(old: bytes, new: bytes) -> frozenset[int]:
    """Numbers, from 1, of the lines of `new` that `old` does not have."""
    return frozenset(line + 1 for change in _changes(old, new) for line in range(change.new_start, change.new_end))


def hunks(old: bytes, new: bytes) -> list[Hunk]:
    """The hunks of a diff, without their context."""
    found: list[Hunk] = []
    for change in _changes(old, new):
        if found and change.old_start - found[-1].old_end <= 2 * _CONTEXT_LINES:
            found[-1] = Hunk(found[-1].old_start, change.old_end, found[-1].new_start, change.new_end)
        else:
            found.append(change)
    return found


def without_hunk(old: bytes, new: bytes, hunk: Hunk) -> bytes:
    """The new text with the old lines in one place."""
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    kept = [*after[: hunk.new_start], *before[hunk.old_start : hunk.old_end], *after[hunk.new_end :]]
    return b"".join(kept)


def _changes(old: bytes, new: bytes) -> list[Hunk]:
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    same = 0
    while same < min(len(before), len(after)) and before[same] == after[same]:
        same += 1
    tail = 0
    while tail < min(len(before), len(after)) - same and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    matcher = difflib.SequenceMatcher(None, before[same : len(before) - tail], after[same : len(after) - tail])
    return [Hunk(same + a, same + b, same + c, same + d) for tag, a, b, c, d in matcher.get_opcodes() if tag != "equal"]
