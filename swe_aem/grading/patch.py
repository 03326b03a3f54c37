"""Patch hygiene: what of an agent's diff may enter the sandbox that grades it. Pure: touches no repository."""

import posixpath
import re
from collections.abc import Callable

from swe_aem.core import AnswerKey
from swe_aem.core.base import Frozen
from swe_aem.grading.diff import DiffError, FileDiff, join, parse_diff
from swe_aem.grading.rules import PathRules, Refusal, is_test_name

MAX_BINARY_BYTES = 1 << 20
MAX_FILE_DIFF_BYTES = 2 << 20
_RUNNER_MACHINERY = re.compile(
    r"\b(?:import|from)\s+_pytest\b|\bpytest_(?:runtest|report|sessionfinish|unconfigure)\w*"
)


class CleanPatch(Frozen):
    """A patch after hygiene."""

    patch: str
    """The remaining diff; empty if nothing remains."""
    stripped: tuple[str, ...] = ()
    """Paths that were dropped, each with its reason: `path (reason)`."""
    integrity: tuple[str, ...] = ()
    """Evidence of cheating, one line each."""
    error: str | None = None
    """Why the text could not be read as a diff; then `patch` is empty."""


def clean_patch(patch: str, key: AnswerKey) -> CleanPatch:
    """Take out of `patch` every file that a patch must not change.

    Removed are files of the task's test patch, files that configure or are the test runner, files that Python runs at
    its start, build products, oversized content, submodules, links and paths that lead out of the repository. What the
    gold patch itself changes may be changed. A refused file is dropped entirely; a rename is refused by either name.
    """
    try:
        sections = parse_diff(patch)
    except DiffError as error:
        return CleanPatch(patch="", error=str(error))
    rules = PathRules(key)
    reaching = reaches_into_runner(key)
    kept: list[FileDiff] = []
    stripped: list[str] = []
    integrity: list[str] = []
    for section in sections:
        refused = _refuse(section, rules)
        reaches = reaching(section) if refused is None else []
        if refused is None and reaches and _is_plain_test(section, rules):
            refused = section.paths[-1], Refusal("reaches into the test runner")
        if refused is None:
            kept.append(section)
            integrity += reaches
            continue
        path, refusal = refused
        line = f"{_printable(path)} ({refusal.reason})"
        stripped.append(line)
        if refusal.is_evidence:
            integrity.append(f"the patch has {line}")
    return CleanPatch(
        patch=join(kept), stripped=tuple(dict.fromkeys(stripped)), integrity=tuple(dict.fromkeys(integrity))
    )


def _refuse(section: FileDiff, rules: PathRules) -> tuple[str, Refusal] | None:
    for path in section.paths:
        refusal = rules.refuse(path, is_new=path != section.old_path) or _refuse_content(section, path, rules)
        if refusal is not None:
            return path, refusal
    if section.is_copy and section.old_path is not None:
        refusal = rules.refuse(section.old_path, is_new=False)
        if refusal is not None and refusal.is_evidence:
            return section.old_path, refusal
    return None


def _refuse_content(section: FileDiff, path: str, rules: PathRules) -> Refusal | None:
    if section.mode == "160000":
        return Refusal("is a submodule")
    if section.lacks_content:
        return Refusal("is binary and the patch does not have its content")
    if section.mode == "120000" and _link_leads_out(section, path):
        return Refusal("is a link that leads out of the repository")
    if path in rules.allowed:
        return None
    if section.binary_bytes > MAX_BINARY_BYTES:
        return Refusal(f"is binary and larger than {MAX_BINARY_BYTES} bytes")
    if len(section.text) > MAX_FILE_DIFF_BYTES:
        return Refusal(f"its change is larger than {MAX_FILE_DIFF_BYTES} bytes")
    return None


def _link_leads_out(section: FileDiff, path: str) -> bool:
    if section.binary_bytes:
        return True  # git writes a link's target as text unless somebody hides it
    target = "\n".join(section.added)
    resolved = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    return target.startswith("/") or resolved.split("/")[0] in ("..", ".git")


def _is_plain_test(section: FileDiff, rules: PathRules) -> bool:
    """Is the file a test by its name, but none of the task's? Honest tests sometimes import `_pytest`."""
    return all(is_test_name(path) and path not in rules.allowed for path in section.paths)


def reaches_into_runner(key: AnswerKey) -> Callable[[FileDiff], list[str]]:
    """A function that tells, as evidence, where a file under development reaches into the machinery of the test runner.

    Not in repositories that are about pytest, and not where the gold patch does so too.
    """
    exempt = "pytest" in key.repo.lower() or _RUNNER_MACHINERY.search(key.gold_patch) is not None

    def evidence(section: FileDiff) -> list[str]:
        path = section.new_path
        if exempt or path is None:
            return []
        lines = (line for line in section.added if _RUNNER_MACHINERY.search(line))
        return [f"{_printable(path)} reaches into the test runner: {_printable(line.strip()[:120])}" for line in lines][
            :1
        ]

    return evidence


def _printable(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
