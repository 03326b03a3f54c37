"""The test patch of a twin: the original's with other lines in it, so that an evaluation makes the same steps."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence

from swe_aem.grading.diff import DiffError, parse_diff
from swe_aem.grading.twins.source import Unsuitable

_SECTION = re.compile(r"^(?=diff --git )", re.MULTILINE)
_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_SIGNS = {" ": "-+", "-": "-", "+": "+", "\\": ""}
"""What stands before a line: on which sides of the patch the line is."""
_NO_NEWLINE = "\\ No newline at end of file"


def patched_paths(patch: str) -> tuple[str, ...]:
    """The files that exist once a patch is applied; none where it cannot be read."""
    try:
        return tuple(section.new_path for section in parse_diff(patch) if section.new_path)
    except DiffError:
        return ()


def twin_sections(patch: str, originals: Mapping[str, bytes], twins: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """Texts of a patch, each with what stands in its place in the twin's; the last is followed by sections of files
    that the patch does not change.

    `originals` are files as they are after the patch, `twins` the same as they become. Raises `Unsuitable`.
    """
    sections = [section for section in _SECTION.split(patch) if section.startswith("diff --git ")]
    changed: list[tuple[str, str]] = []
    left = dict(twins)
    for section in sections:
        paths = patched_paths(section)
        if len(paths) == 1 and paths[0] in left:
            twin = left.pop(paths[0])
            changed.append((section.rstrip("\n"), _section(section, originals[paths[0]], twin)))
    if left:
        if not sections:
            raise Unsuitable("its file is in the image, and the evaluation does not write it")
        last = sections[-1].rstrip("\n")
        old, new = changed.pop() if changed and changed[-1][0] == last else (last, last)
        added = [_new_section(path, originals[path], twin) for path, twin in sorted(left.items())]
        changed.append((old, "\n".join((new, *added))))
    return changed


def replaced(text: str, changes: Sequence[tuple[str, str]]) -> str:
    """The text with each change made at the one place where it fits; raises `Unsuitable` if there is not one."""
    for old, new in changes:
        if text.count(f"{old}\n") != 1:
            raise Unsuitable("the evaluation script does not have the test patch in one piece")
        text = text.replace(f"{old}\n", f"{new}\n")
    return text


def _section(section: str, original: bytes, twin: bytes) -> str:
    head, at, hunks = section.partition("\n@@ ")
    if not at:
        raise Unsuitable("the test patch does not change the lines of its file")
    before = _before(f"@@ {hunks}", _lines(original))
    heads = {found[0]: line for line in f"@@ {hunks}".split("\n") if (found := _HUNK.match(line))}
    return "\n".join((head, *(heads.get(line, line) for line in _hunks(before, _lines(twin)))))


def _new_section(path: str, original: bytes, twin: bytes) -> str:
    if re.search(r"[\s\"\\]|[^\x20-\x7e]", path):
        raise Unsuitable("the name of its file would have to be quoted in a patch")
    head = (f"diff --git a/{path} b/{path}", f"--- a/{path}", f"+++ b/{path}")
    return "\n".join((*head, *_hunks(_lines(original), _lines(twin))))


def _lines(data: bytes) -> list[str]:
    """Lines with their ends; only `\\n` ends a line, as for git."""
    return re.findall(r"[^\n]*\n|[^\n]+", data.decode("utf-8"))


def _before(hunks: str, after: list[str]) -> list[str]:
    """The file before the hunks were applied; raises `Unsuitable` if they are not in it."""
    before = list(after)
    for near, old, new in reversed(list(_read_hunks(hunks.split("\n")))):
        start = _place(before, new, near)
        before[start : start + len(new)] = old
    return before


def _read_hunks(lines: list[str]) -> Iterator[tuple[int, list[str], list[str]]]:
    """Each hunk: the index of its first line in the new file, its lines there before, and after."""
    at = 0
    while at < len(lines) and lines[at]:
        head = _HUNK.match(lines[at])
        if head is None:
            raise Unsuitable("the test patch cannot be read")
        wanted = {"-": int(head[1] or 1), "+": int(head[3] or 1)}
        sides: dict[str, list[str]] = {"-": [], "+": []}
        touched = ""
        at += 1
        while any(len(sides[sign]) < wanted[sign] for sign in sides) or lines[at : at + 1] == [_NO_NEWLINE]:
            if at >= len(lines) or lines[at][:1] not in ("", *_SIGNS):
                raise Unsuitable("the test patch cannot be read")
            if lines[at] == _NO_NEWLINE:
                for sign in touched:
                    sides[sign][-1] = sides[sign][-1].removesuffix("\n")
            else:
                touched = _SIGNS[lines[at][:1] or " "]
                for sign in touched:
                    sides[sign].append(f"{lines[at][1:]}\n")
            at += 1
        yield int(head[2]) - bool(sides["+"]), sides["-"], sides["+"]


def _place(lines: list[str], wanted: list[str], near: int) -> int:
    """Where the lines of a hunk are: git applies a hunk that moved, too."""
    if not wanted:
        return near
    last = len(lines) - len(wanted)
    places = [at for at in range(last + 1) if lines[at] == wanted[0] and lines[at : at + len(wanted)] == wanted]
    if not places:
        raise Unsuitable("its file is not what the test patch makes of it")
    return min(places, key=lambda at: abs(at - near))


def _hunks(before: list[str], after: list[str]) -> list[str]:
    found: list[str] = []
    for line in [*difflib.unified_diff(before, after, n=3)][2:]:
        found += [line.removesuffix("\n")] if line.endswith("\n") else [line, _NO_NEWLINE]
    return found
