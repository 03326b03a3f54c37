"""`patch_files`: a patch file by file, with what grading left out of it."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from swe_aem.audit.code import changes_of

_SECTION = re.compile(r"^diff --git ", re.MULTILINE)


class PatchFile(NamedTuple):
    """One file of a patch."""

    path: str
    """Empty where the text is no diff of a file."""
    kind: str
    """`new`, `deleted` or `changed`."""
    text: str
    added: int
    """Lines."""
    removed: int
    stripped: str
    """Why grading left it out; empty for what was graded."""


def patch_files(patch: str, stripped: Sequence[str]) -> list[PatchFile]:
    """The files of a patch, and those that were left out before the patch was taken, which have no text. `stripped` is
    that of a verdict."""
    starts = [match.start() for match in _SECTION.finditer(patch)]
    edges = [*([0] if not starts or starts[0] else []), *starts, len(patch)]
    reasons = dict(_reason(line) for line in stripped)
    files = []
    for a, b in pairwise(edges):
        if section := patch[a:b].strip("\n"):
            files.append(_file(section, reasons))
    seen = {file.path for file in files}
    files += [PatchFile(path, "", "", 0, 0, reason) for path, reason in reasons.items() if path not in seen]
    return files


def _reason(line: str) -> tuple[str, str]:
    """`path (why)` apart."""
    path, bracket, why = line.partition(" (")
    return path, why.removesuffix(")") if bracket else "left out"


def _file(section: str, reasons: dict[str, str]) -> PatchFile:
    head, _, lines = section.partition("\n@@ ")
    change = next(iter(changes_of(head)), None)
    path = change.path if change else ""
    return PatchFile(
        path=path,
        kind=change.kind if change else "",
        text=section,
        added=lines.count("\n+"),
        removed=lines.count("\n-"),
        stripped=reasons.get(path, ""),
    )
