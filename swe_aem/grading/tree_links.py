"""Names that a work tree has through its links to directories: what `calc/core.py` is, where `calc` leads to `src`."""

import os
import posixpath
import stat
from bisect import bisect_left
from collections.abc import Iterable, Mapping

from swe_aem.core import TreeEntry

_MAX_LINKS = 40
"""Links that the kernel follows in one path."""


def paths_through_links(entries: Mapping[str, TreeEntry], workdir: str, files: Iterable[str]) -> set[str]:
    """What lies below each link of a tree that `files` could replace, named through that link.

    These are the links above a file, and those called like a file without its suffix (`calc` for `calc.py`). Links that
    leave the tree have nothing below them.
    """
    links = {place for path in files for place in _places(path) if _is_link(entries.get(place))}
    ordered = sorted(entries) if links else []
    found = set()
    for link in links:
        place = _resolved(link, entries, workdir)
        if place is None:
            continue
        inside = f"{place}/" if place else ""
        for path in ordered[bisect_left(ordered, inside) :]:
            if not path.startswith(inside):
                break
            found.add(posixpath.join(link, path.removeprefix(inside)))
    return found


def _places(path: str) -> Iterable[str]:
    directory, name = posixpath.split(path)
    yield posixpath.join(directory, name.partition(".")[0])
    while path := posixpath.dirname(path):
        yield path


def _is_link(entry: TreeEntry | None) -> bool:
    return entry is not None and stat.S_ISLNK(entry.mode)


def _resolved(path: str, entries: Mapping[str, TreeEntry], workdir: str) -> str | None:
    """Where a path of the tree leads, as the kernel would follow it; None if out of the tree or to nothing."""
    at, rest, links = "", path.split("/")[::-1], 0
    while rest:
        part = rest.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not at:
                return None
            at = posixpath.dirname(at)
            continue
        entry = entries.get(posixpath.join(at, part))
        if entry is None:
            return None
        if not stat.S_ISLNK(entry.mode):
            at = posixpath.join(at, part)
            continue
        target, links = os.fsdecode(entry.target), links + 1
        if links > _MAX_LINKS:
            return None
        if target.startswith("/"):
            if not f"{target}/".startswith(f"{workdir}/"):
                return None
            at, target = "", target[len(workdir) :]
        rest += target.split("/")[::-1]
    return at
