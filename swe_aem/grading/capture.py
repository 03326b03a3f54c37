"""What an agent left in its work tree, taken against the tree that it was given.

The sandbox itself lists and reads the files (`Sandbox.list_tree`): no program, configuration, attribute or hook in it
takes part. Of the agent's repository only the names in its index are used.
"""

import asyncio
import hashlib
import logging
import stat
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeGuard

from swe_aem.core import Sandbox, Tree, TreeEntry
from swe_aem.errors import InfrastructureError
from swe_aem.grading.delta import EXECUTABLE, FILE, LINK, above, printable
from swe_aem.grading.git_index import MAX_INDEX_BYTES, index_names
from swe_aem.grading.ignore_rules import EXCLUDE, ignored_names, is_ignore_file

MAX_NEW_FILE_BYTES = 1 << 20
"""New files above this size are build products or data, not part of a patch."""
MAX_FILE_BYTES = 8 << 20
"""Changed files above this size are not part of a patch."""
MAX_CHANGED_BYTES = 64 << 20
MAX_CHANGED_PATHS = 20_000
"""Beyond these new files are left out, the largest first, or the most numerous ones of a directory. Where that does not
do, the delta is empty."""
MAX_TOUCHED_BYTES = 128 << 20
"""Contents that are kept of files whose size and mode did not change: of most of them only the times did."""
MAX_PATH_BYTES = 3800
MAX_ENTRIES = 500_000
"""A work tree with more names, directories included, cannot be given to an agent; left by one, it gives an empty
delta."""

_INDEX = ".git/index"
_MAX_IGNORE_FILE_BYTES = 1 << 20
_MOST_LISTED = 1000
"""Paths that are listed as no part of a patch; the others are counted."""
_BATCH_BYTES, _BATCH_PATHS = 16 << 20, 2000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GivenTree:
    """The work tree of a sandbox as an agent is given it, untracked files of the image included."""

    tree: Tree
    tracked: frozenset[str]
    """Names in the index."""
    ignore_rules: Mapping[str, bytes]
    """Content of every `.gitignore`, and of `.git/info/exclude`, by path."""


@dataclass(frozen=True)
class WorkFile:
    """A path of the final tree that may differ from what was given."""

    path: str
    mode: int
    """`FILE`, `EXECUTABLE` or `LINK`."""
    digest: bytes
    """SHA-256 of the content, or of the target of a link."""
    content: bytes | None
    """None where it was not kept: `MAX_TOUCHED_BYTES`."""


@dataclass(frozen=True)
class CapturedWork:
    """What may have changed in a work tree: contents still have to be compared with the given ones."""

    given: Mapping[str, TreeEntry]
    """What was given at the paths below; a path that is not here was not there, or was a directory."""
    files: tuple[WorkFile, ...] = ()
    removed: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    """Paths that are no part of it, each as `path (reason)`."""
    why_empty: str = ""
    """Why there is nothing, where there may have been something."""

    @property
    def empty(self) -> bool:
        """Is there nothing that could be in a patch?"""
        return not self.files and not self.removed


async def record_given(sandbox: Sandbox, workdir: str) -> GivenTree:
    """Record the work tree that an agent is about to get.

    Raises `InfrastructureError` if it cannot be listed as a whole, and `SandboxDead`.
    """
    try:
        return await _record(sandbox, workdir)
    except OSError as error:
        raise InfrastructureError(f"the work tree in {workdir} cannot be listed: {error.strerror or error}") from error


async def _record(sandbox: Sandbox, workdir: str) -> GivenTree:
    tree = await sandbox.list_tree(workdir, max_entries=MAX_ENTRIES)
    if len(tree.entries) >= MAX_ENTRIES:
        raise InfrastructureError(f"the work tree in {workdir} has more than {MAX_ENTRIES} names")
    rules = [path for path, entry in tree.entries.items() if is_ignore_file(path) and stat.S_ISREG(entry.mode)]
    names = [*rules, EXCLUDE]
    contents = await sandbox.read_tree(workdir, names, max_bytes=_MAX_IGNORE_FILE_BYTES)
    (index,) = await sandbox.read_tree(workdir, [_INDEX], max_bytes=MAX_INDEX_BYTES)
    return GivenTree(
        Tree(tree.raw),  # what was decoded takes ten times the memory, and agents take long
        tracked=await asyncio.to_thread(index_names, index or b""),
        ignore_rules={name: content for name, content in zip(names, contents, strict=True) if content},
    )


async def capture_work(
    sandbox: Sandbox,
    workdir: str,
    given: GivenTree,
    *,
    heed_ignore_rules: bool = True,
    max_new_file_bytes: int = MAX_NEW_FILE_BYTES,
) -> CapturedWork:
    """What is different in the work tree from what was given. Ends every process of the sandbox first.

    Names that the given index does not have and that the given rules ignore do not count, unless the index names them
    now (`git add -f`, committed or not). Left out, and listed, are repositories inside of the work tree, new virtual
    environments, caches that mark themselves, large new files, and what is neither a file nor a link.

    What an agent made unreadable, or too much, is its own doing: then the work is empty, with a reason. Raises
    `SandboxDead`; `InfrastructureError` and `UserError` where the host's git fails or is not there.
    """
    await sandbox.settle()
    try:
        with _reading(workdir):
            tree = await sandbox.list_tree(workdir, max_entries=MAX_ENTRIES)
            if len(tree.entries) >= MAX_ENTRIES:
                raise _NoPatch(f"the work tree has {MAX_ENTRIES} names or more")
            (index,) = await sandbox.read_tree(workdir, [_INDEX], max_bytes=MAX_INDEX_BYTES)
        indexed = await asyncio.to_thread(index_names, index or b"")
        comparison = _Comparison(given, tree, indexed, max_new_file_bytes)
        with _reading(workdir):
            hidden = await _directories_that_ignore_themselves(sandbox, workdir, comparison)
        rules = given.ignore_rules if heed_ignore_rules else {}
        ignored = await asyncio.to_thread(ignored_names, rules, comparison.unlisted())
        candidates = comparison.sorted_out(ignored, hidden)
        with _reading(workdir):
            return await _read(sandbox, workdir, candidates)
    except _NoPatch as error:
        return _nothing(sandbox, str(error))


class _NoPatch(Exception):
    """The work tree cannot be read, or has more changes than a patch may have."""


@contextmanager
def _reading(workdir: str) -> Iterator[None]:
    """Calls of the agent's sandbox, and nothing of the host: what they cannot read was made unreadable in it."""
    try:
        yield
    except OSError as error:
        raise _NoPatch(f"the work tree in {workdir} cannot be read: {error.strerror or error}") from error


def _nothing(sandbox: Sandbox, why: str) -> CapturedWork:
    logger.warning("sandbox %s: no patch, %s", sandbox.id, why)
    return CapturedWork(given={}, why_empty=why)


async def _directories_that_ignore_themselves(sandbox: Sandbox, workdir: str, found: "_Comparison") -> list[str]:
    """New directories with a `.gitignore` that ignores everything in them, as tools write it for their caches."""
    names = found.new_ignore_files()
    if not names:
        return []
    contents = await sandbox.read_tree(workdir, names, max_bytes=_MAX_IGNORE_FILE_BYTES)
    pairs = zip(names, contents, strict=True)
    return [name.removesuffix("/.gitignore") for name, content in pairs if content and b"*" in content.split()]


@dataclass(frozen=True)
class _Candidates:
    """Paths whose metadata differ, sorted out."""

    given: Mapping[str, TreeEntry]
    present: Mapping[str, TreeEntry]
    removed: tuple[str, ...]
    left_out: tuple[str, ...]


class _Comparison:
    """The given and the final tree side by side."""

    def __init__(self, given: GivenTree, after: Tree, indexed: frozenset[str], max_new_file_bytes: int) -> None:
        self.before, self.after = given.tree.entries, after.entries
        self.unseen = after.left_out - given.tree.left_out
        self.tracked = given.tracked
        self.listed = given.tracked | indexed
        self.max_new_file_bytes = max_new_file_bytes
        self.present = [path for path, entry in self.after.items() if not _is_out(path, entry, self.before.get(path))]
        self.removed = [
            path
            for path, entry in self.before.items()
            if not stat.S_ISDIR(entry.mode) and not _is_git(path) and _is_missing(self.after.get(path))
        ]

    def unlisted(self) -> list[str]:
        """Changed names that neither index has."""
        return [path for path in (*self.present, *self.removed) if path not in self.listed]

    def new_ignore_files(self) -> list[str]:
        """`.gitignore` files in directories that are new."""
        return [path for path in self.present if path.endswith("/.gitignore") and path[:-11] not in self.before]

    def sorted_out(self, ignored: frozenset[str], hidden: Iterable[str]) -> _Candidates:
        """The changed paths without what does not count, and why not; raises `_NoPatch`.

        `ignored` are names that are ignored, `hidden` are directories that ignore themselves.
        """
        apart = dict.fromkeys(hidden, "is new and ignores itself") | self._apart()
        environments = self._virtual_environments()
        left_out: dict[str, str] = {}
        present: dict[str, TreeEntry] = {}
        removed = set[str]()
        for path in (*self.present, *self.removed):
            if path not in self.tracked:
                root = next((root for root in above(path) if root in environments), None)
                if root is not None:
                    if path not in ignored:
                        left_out[root] = "is a virtual environment"
                    continue
            if path not in self.listed:
                if path in ignored:
                    continue
                root = next((root for root in above(path) if root in apart), None)
                if root is not None:
                    left_out[root] = apart[root]
                    continue
            entry = self.after.get(path)
            why = self._why_not(path, entry)
            if why is not None:
                left_out[path] = why
            if entry is None or stat.S_ISDIR(entry.mode) or (why is not None and not _is_content(entry)):
                if path in self.before:
                    removed.add(path)
            elif why is None:
                present[path] = entry
        touched = sum(_is_only_touched(entry, self.before.get(path)) for path, entry in present.items())
        left_out |= self._take_out_crowds(present, MAX_CHANGED_PATHS + touched - len(removed))
        removed |= self._in_the_way(present)
        changed = len(present) - touched + len(removed)
        if changed > MAX_CHANGED_PATHS:
            raise _NoPatch(f"{changed} paths changed; {MAX_CHANGED_PATHS} is the limit")
        given = {path: entry for path in (*present, *removed) if _is_content(entry := self.before.get(path))}
        lines = [f"{_short(printable(path))} ({why})" for path, why in sorted(left_out.items())[:_MOST_LISTED]]
        if len(left_out) > _MOST_LISTED:
            lines.append(f"{len(left_out) - _MOST_LISTED} more paths (are no part of a patch)")
        if self.unseen > 0:
            lines.append(f"{self.unseen} more names (are too deep in the tree, or cannot be read)")
        return _Candidates(given, present, tuple(sorted(path for path in removed if path in given)), tuple(lines))

    def _take_out_crowds(self, present: dict[str, TreeEntry], most: int) -> dict[str, str]:
        """Takes new files out of `present` where there are more than `most`: leftovers of a tool are no reason to lose
        a fix. All those of one new directory, or all new ones in a directory that was there; the most numerous first.
        """
        if len(present) <= most:
            return {}
        crowds: dict[str, list[str]] = {}
        for path in present:
            if path not in self.before and path not in self.listed:
                home = next((directory for directory in above(path) if directory not in self.before), None)
                crowds.setdefault(home or path.rpartition("/")[0] or ".", []).append(path)
        taken: dict[str, str] = {}
        for home, paths in sorted(crowds.items(), key=lambda crowd: (-len(crowd[1]), crowd[0])):
            if len(present) <= most:
                break
            for path in paths:
                del present[path]
            taken[home] = f"{len(paths)} new files in it are more than a patch may have"
        return taken

    def _why_not(self, path: str, entry: TreeEntry | None) -> str | None:
        if len(path.encode("utf-8", "surrogateescape")) > MAX_PATH_BYTES:
            return f"its path is longer than {MAX_PATH_BYTES} bytes"
        if entry is None or stat.S_ISDIR(entry.mode):
            return None
        if not _is_content(entry):
            return "is neither a file nor a link"
        if not _is_content(self.before.get(path)) and entry.size > self.max_new_file_bytes:
            return f"is new and larger than {self.max_new_file_bytes} bytes"
        if entry.size > MAX_FILE_BYTES:
            return f"is larger than {MAX_FILE_BYTES} bytes"
        return None

    def _apart(self) -> dict[str, str]:
        """Directories that are no part of the work: names below them count only if an index has them."""
        found: dict[str, str] = {}
        for path in self.after:
            directory, _, name = path.rpartition("/")
            if not directory:
                continue
            if name == "CACHEDIR.TAG" and directory not in self.before:
                found[directory] = "is a new cache"
        for path in (*self.before, *self.after):
            directory, _, name = path.rpartition("/")
            if name == ".git" and directory:
                found[directory] = "is a repository of its own"
        return found

    def _virtual_environments(self) -> set[str]:
        """Directories with an interpreter of their own, which tests may run in: no name below them counts unless the
        given index has it, whatever the agent's index says."""
        found = (path.rpartition("/") for path in (*self.before, *self.after) if path not in self.tracked)
        return {directory for directory, _, name in found if name == "pyvenv.cfg" and directory}

    def _in_the_way(self, present: Mapping[str, TreeEntry]) -> set[str]:
        """Given paths that had to go for present ones, ignored or not: a file is a directory now, or the reverse."""
        found = {
            parent
            for path in present
            for parent in above(path)
            if not _is_missing(self.before.get(parent)) and not _is_git(parent)
        }
        replaced = {path for path in present if path in self.before and stat.S_ISDIR(self.before[path].mode)}
        if replaced:
            found |= {
                path
                for path, entry in self.before.items()
                if not stat.S_ISDIR(entry.mode) and not _is_git(path) and any(root in replaced for root in above(path))
            }
        return found


def _is_out(path: str, entry: TreeEntry, before: TreeEntry | None) -> bool:
    """Is a path of the final tree out of the question: as it was given, a directory, or git's own?"""
    return entry == before or stat.S_ISDIR(entry.mode) or _is_git(path)


def _is_missing(entry: TreeEntry | None) -> bool:
    """Is there nothing, or a directory?"""
    return entry is None or stat.S_ISDIR(entry.mode)


def _is_content(entry: TreeEntry | None) -> TypeGuard[TreeEntry]:
    return entry is not None and (stat.S_ISREG(entry.mode) or stat.S_ISLNK(entry.mode))


def _is_only_touched(entry: TreeEntry, before: TreeEntry | None) -> bool:
    """Are mode and size as they were given, so that most likely only the times differ?"""
    return before is not None and (before.mode, before.size) == (entry.mode, entry.size)


def _short(path: str) -> str:
    """A path of at most some hundred characters, without its middle."""
    return path if len(path) <= 300 else f"{path[:150]}...{path[-147:]}"


def _is_git(path: str) -> bool:
    return path == ".git" or path.endswith("/.git")


def git_mode(entry: TreeEntry) -> int:
    """Git's mode for a file or link."""
    if stat.S_ISLNK(entry.mode):
        return LINK
    return EXECUTABLE if entry.mode & stat.S_IXUSR else FILE


async def read_contents(
    sandbox: Sandbox, workdir: str, sizes: Mapping[str, int]
) -> AsyncIterator[tuple[str, bytes | None]]:
    """Contents of regular files, a batch at a time, in order; `sizes` are what a listing said of them, in bytes."""
    batch: list[str] = []
    total = 0
    for path, size in (*sizes.items(), ("", _BATCH_BYTES + 1)):
        if batch and (total + size > _BATCH_BYTES or len(batch) == _BATCH_PATHS):
            contents = await sandbox.read_tree(workdir, batch, max_bytes=MAX_FILE_BYTES)
            for one in zip(batch, contents, strict=True):
                yield one
            batch, total = [], 0
        batch.append(path)
        total += size


async def _read(sandbox: Sandbox, workdir: str, found: _Candidates) -> CapturedWork:
    """The contents of the candidates."""
    files = [
        WorkFile(path, LINK, _digest(entry.target), entry.target)
        for path, entry in found.present.items()
        if stat.S_ISLNK(entry.mode)
    ]
    changed, touched = dict[str, int](), dict[str, int]()
    for path, entry in found.present.items():
        if stat.S_ISREG(entry.mode):
            before = found.given.get(path)
            (touched if _is_only_touched(entry, before) else changed)[path] = entry.size
    left_out = list(found.left_out)
    total = sum(changed.values())
    for path in sorted(changed.keys() - found.given.keys(), key=lambda path: (-changed[path], path)):
        if total <= MAX_CHANGED_BYTES:
            break
        total -= changed.pop(path)
        left_out.append(f"{printable(path)} (is new and large, and all changes together have too many bytes)")
    if total > MAX_CHANGED_BYTES:
        raise _NoPatch(f"the changed files have {total} bytes; {MAX_CHANGED_BYTES} is the limit")
    # Of the files that may only have been touched source comes before data: not all of the contents may be kept.
    ordered = changed | dict(sorted(touched.items(), key=lambda item: item[1]))
    space = MAX_TOUCHED_BYTES
    async for path, content in read_contents(sandbox, workdir, ordered):
        if content is None:
            left_out.append(f"{printable(path)} (cannot be read)")
            continue
        space -= len(content) if path in touched else 0
        keeps = path in changed or space >= 0
        mode = git_mode(found.present[path])
        files.append(WorkFile(path, mode, _digest(content), content if keeps else None))
    return CapturedWork(found.given, tuple(files), found.removed, tuple(left_out))


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
