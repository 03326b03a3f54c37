"""Writes an accepted delta into the sandbox that grades it, and proves that nothing else changed there."""

import stat
from collections.abc import Mapping, Sequence

from swe_aem.core import Sandbox, Tree, TreeChange, TreeEntry
from swe_aem.errors import GraderError
from swe_aem.grading.capture import git_mode, read_contents
from swe_aem.grading.delta import FILE, LINK, Blob, Change, above, printable
from swe_aem.grading.diff import DiffError, parse_diff


def wanted_state(
    accepted: Sequence[Change], before: Tree, test_patch: str, files: Mapping[str, bytes]
) -> dict[str, Blob | None]:
    """What each path becomes that grading changes; None: it is not there afterwards.

    `before` is the work tree as it is. `files` are the answer key's, by path relative to it: they take the place of
    whatever stands there. Files that `test_patch` is going to create go: where one exists, the evaluation's own
    `git apply` refuses the whole test patch.
    """
    entries = before.entries
    wanted: dict[str, Blob | None] = {change.path: change.new for change in accepted}
    for path, content in files.items():
        there = entries.get(path)
        wanted[path] = Blob(git_mode(there) if there and stat.S_ISREG(there.mode) else FILE, content)
    for path in added_files(test_patch):
        if path in entries:
            wanted[path] = None
    # What stands in the way: files and links in the place of a directory, and all that is in a directory which goes.
    for path in list(wanted):
        if wanted[path] is not None:
            for parent in above(path):
                if parent in entries and not stat.S_ISDIR(entries[parent].mode):
                    wanted[parent] = None
    replaced = {path for path in wanted if path in entries and stat.S_ISDIR(entries[path].mode)}
    if replaced:
        for path, entry in entries.items():
            if (
                not stat.S_ISDIR(entry.mode)
                and path not in wanted
                and any(parent in replaced for parent in above(path))
            ):
                wanted[path] = None
    return wanted


async def write_state(sandbox: Sandbox, workdir: str, before: Tree, wanted: Mapping[str, Blob | None]) -> None:
    """Bring the work tree from `before` to `wanted`, and check that exactly that has happened.

    Raises `GraderError` if it has not: nothing of the patch's runs while it is written. Raises `SandboxDead`.
    """
    changes = [
        TreeChange(path, blob.mode if blob else FILE, blob.content if blob else None) for path, blob in wanted.items()
    ]
    try:
        await sandbox.change_tree(workdir, changes)
        after = await sandbox.list_tree(workdir)
        await _check(sandbox, workdir, before, after, wanted)
    except OSError as error:
        raise GraderError(f"the patch cannot be written: {error}") from error


async def _check(sandbox: Sandbox, workdir: str, before: Tree, after: Tree, wanted: Mapping[str, Blob | None]) -> None:
    old, new = _content(before), _content(after)
    changed = {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}
    expected = {path for path, blob in wanted.items() if blob is not None or path in old}
    odd = changed ^ expected | {path for path, blob in wanted.items() if (path in new) is (blob is None)}
    there = {path: blob for path, blob in wanted.items() if blob is not None and path not in odd}
    odd |= {path for path, blob in there.items() if git_mode(new[path]) != blob.mode}
    odd |= {path for path, blob in there.items() if blob.mode == LINK and new[path].target != blob.content}
    files = {path: new[path].size for path, blob in there.items() if blob.mode != LINK}
    async for path, content in read_contents(sandbox, workdir, files):
        if content != there[path].content:
            odd.add(path)
    if odd:
        shown = ", ".join(printable(path) for path in sorted(odd)[:5])
        raise GraderError(f"after writing the patch, {len(odd)} paths are not as they should be: {shown}")


def _content(tree: Tree) -> dict[str, TreeEntry]:
    return {path: entry for path, entry in tree.entries.items() if not stat.S_ISDIR(entry.mode)}


def added_files(test_patch: str) -> tuple[str, ...]:
    """Paths of the files that a patch creates."""
    try:
        sections = parse_diff(test_patch)
    except DiffError:
        return ()
    return tuple(section.new_path for section in sections if section.is_new and section.new_path)
