"""From captured work to a delta: given files are read in a sandbox that no agent touched, and equal ones drop out."""

import asyncio
import hashlib
import logging
import stat
from collections.abc import Iterable

from swe_aem.core import Sandbox, TreeEntry
from swe_aem.errors import GraderError
from swe_aem.grading.capture import MAX_FILE_BYTES, CapturedWork, WorkFile, git_mode, read_contents
from swe_aem.grading.delta import LINK, Blob, Change, Delta, printable
from swe_aem.grading.diff_text import render_delta

MAX_PATCH_BYTES = 8 << 20
"""The longest text of a patch. New files beyond it are left out, the largest first: they are logs or data. Without any
that could be, there is no delta."""

_HEADER_CHARACTERS = 400

logger = logging.getLogger(__name__)


async def delta_of(work: CapturedWork, untouched: Sandbox, workdir: str) -> Delta:
    """What `work` changes; `untouched` is a sandbox of the same image, prepared as the agent's was.

    Raises `GraderError` if that one is not like the given tree, and `SandboxDead`.
    """
    if work.empty:
        return Delta(left_out=work.left_out, why_empty=work.why_empty)
    left_out = list(work.left_out)
    files = {file.path: file for file in work.files}
    changes = [
        Change(file.path, old, new)
        for file in work.files
        if (old := _link(work.given.get(file.path))) != (new := _new(file)) and not _needs_content(work, file.path)
    ]
    changes += [Change(path, old, None) for path in work.removed if (old := _link(work.given[path])) is not None]
    considered = (*files, *work.removed)
    wanted = {path: work.given[path].size for path in considered if _needs_content(work, path)}
    too_large = {path for path, size in wanted.items() if size > MAX_FILE_BYTES}
    left_out += [f"{printable(path)} (was larger than {MAX_FILE_BYTES} bytes)" for path in sorted(too_large)]
    for path in too_large:
        del wanted[path]
    not_kept = 0
    async for path, content in read_contents(untouched, workdir, wanted):
        if content is None:
            raise GraderError(f"{printable(path)} is in the agent's sandbox, and not in the one that grades")
        old, file = Blob(git_mode(work.given[path]), content), files.get(path)
        if file is None:
            changes.append(Change(path, old, None))
        elif (file.mode, file.digest) != (old.mode, hashlib.sha256(content).digest()):
            not_kept += file.content is None
            changes.append(Change(path, old, _new(file)))
    if not_kept:
        return _nothing(untouched, f"{not_kept} changed files are among more touched ones than are kept", left_out)
    delta = await asyncio.to_thread(render_delta, changes, left_out)
    while (excess := len(delta.patch) - MAX_PATCH_BYTES) > 0:
        largest = _largest_new(changes, excess)
        if not largest:
            why = f"its text has {len(delta.patch)} characters; {MAX_PATCH_BYTES} is the limit"
            return _nothing(untouched, why, left_out)
        left_out += [f"{printable(path)} (is new, and the patch too long with it)" for path in sorted(largest)]
        changes = [change for change in changes if change.path not in largest]
        delta = await asyncio.to_thread(render_delta, changes, left_out)
    return delta


def _largest_new(changes: Iterable[Change], excess: int) -> set[str]:
    """Paths of new files, the largest first: so many that their text has `excess` characters, or all there are."""
    new = [(_text_size(change.new), change.path) for change in changes if change.old is None and change.new]
    chosen, size = set[str](), 0
    for characters, path in sorted(new, reverse=True):
        if size >= excess:
            break
        chosen.add(path)
        size += characters
    return chosen


def _text_size(blob: Blob) -> int:
    """About as many characters as a new file has in a diff: a header, and a sign for each line. Rather more than fewer,
    so that no file goes without need."""
    return _HEADER_CHARACTERS + len(blob.content) + blob.content.count(b"\n")


def _needs_content(work: CapturedWork, path: str) -> bool:
    """Was a regular file given here?"""
    entry = work.given.get(path)
    return entry is not None and stat.S_ISREG(entry.mode)


def _link(entry: TreeEntry | None) -> Blob | None:
    return Blob(LINK, entry.target) if entry is not None and stat.S_ISLNK(entry.mode) else None


def _new(file: WorkFile) -> Blob:
    return Blob(file.mode, file.content or b"")


def _nothing(sandbox: Sandbox, why: str, left_out: list[str]) -> Delta:
    logger.warning("sandbox %s: no patch, %s", sandbox.id, why)
    return Delta(left_out=tuple(left_out), why_empty=why)
