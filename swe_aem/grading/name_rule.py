"""The rule for new names, measured: refused is what the evaluation would import in place of something else.

That is a new name which Python finds outside of the work tree, or one which a session with the gold patch, or without a
patch, tried to import, found or not. Everything else is accepted: new packages, modules and scripts that nothing of the
runner imports.
"""

from collections.abc import Awaitable, Callable

from swe_aem.core import AnswerKey, Sandbox
from swe_aem.grading.delta import Delta
from swe_aem.grading.import_names import NewName, Outside, is_in_front, names_outside, new_names
from swe_aem.grading.import_record import ImportRecord
from swe_aem.grading.rules import NameRule, paths_of, shadows
from swe_aem.grading.tree_links import paths_through_links

_IN_FRONT = "would be imported in place of another module"
_TRIED = "would be imported by the evaluation"


async def measured_rule(
    delta: Delta, key: AnswerKey, untouched: Sandbox, workdir: str, record: Callable[[], Awaitable[ImportRecord]]
) -> NameRule:
    """The rule for the new files of a delta. `untouched` is a sandbox without any of them.

    `record` runs a control; it is asked only if a new name is not refused without it. What the gold patch adds is
    always allowed. Raises what `record` raises, `GraderError` and `SandboxDead`.
    """
    files = {change.path for change in delta.changes if change.old is None and change.new is not None}
    made = await _made(files, key, untouched, workdir)
    if not made:
        return shadows
    outside = await names_outside(untouched, workdir, {new.name for names in made.values() for new in names})
    refused = {path: _IN_FRONT for path, names in made.items() if any(_at_the_top(new, outside) for new in names)}
    rest = {path: names for path, names in made.items() if path not in refused and not shadows(path)}
    if rest and outside.has_python:
        session = await record()
        refused |= {path: why for path, names in rest.items() if (why := _in_session(names, outside, session))}
    return lambda path: refused.get(path) or shadows(path)


async def _made(files: set[str], key: AnswerKey, untouched: Sandbox, workdir: str) -> dict[str, list[NewName]]:
    """Each new file with the names that it makes, without those that the gold patch makes.

    A name that a link of the given tree has is not new where a directory takes the place of the link.
    """
    entries = (await untouched.list_tree(workdir)).entries
    given = entries.keys() | paths_through_links(entries, workdir, files)
    gold = new_names(paths_of(key.gold_patch) - given, given).values()
    allowed = {(new.directory, new.name) for names in gold for new in names}
    made = {
        path: [new for new in names if (new.directory, new.name) not in allowed]
        for path, names in new_names(files - given, given).items()
    }
    return {path: names for path, names in made.items() if names}


def _at_the_top(new: NewName, outside: Outside) -> bool:
    """The top of the work tree is on the path of `python -m` and of many test suites: there nothing else is asked."""
    return not new.directory and is_in_front(new, outside.found.get(new.name, ()))


def _in_session(names: list[NewName], outside: Outside, session: ImportRecord) -> str | None:
    """Why a session that had these directories on its path would import one of the names."""
    for new in names:
        found = outside.found.get(new.name, ())
        if new.directory and new.directory not in session.directories:
            continue
        if is_in_front(new, found):
            return _IN_FRONT
        if new.name in session.names and not (new.kind == "namespace" and found):
            return _TRIED
    return None
