"""Hygiene: what of a delta may enter the sandbox that grades it. Pure: looks at paths, modes and contents alone."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from swe_aem.core import AnswerKey
from swe_aem.grading.compiled import is_compiled
from swe_aem.grading.delta import LINK, Blob, Change, Delta, above, printable
from swe_aem.grading.rules import NameRule, PathRules, is_test_name, shadows

MAX_NEW_FILE_BYTES = 1 << 20
"""New files above this size are build products or data, unless the gold patch has them."""

_RUNNER_MACHINERY = re.compile(
    r"\b(?:import|from)\s+_pytest\b|\bpytest_(?:runtest|report|sessionfinish|unconfigure)\w*"
)
_PYTHON_SOURCE = (".py", ".pyx", ".pyi")


@dataclass(frozen=True)
class CleanDelta:
    """A delta after hygiene."""

    accepted: tuple[Change, ...] = ()
    """What is graded."""
    refused: tuple[str, ...] = ()
    """Paths that were left out, when the delta was taken or now, each as `path (reason)`."""
    integrity: tuple[str, ...] = ()
    """Evidence of tampering, one line each."""


def clean_delta(
    delta: Delta,
    key: AnswerKey,
    name_rule: NameRule = shadows,
    protected: Iterable[str] = (),
    workdir: str = "/testbed",
) -> CleanDelta:
    """Leave out of `delta` what a patch must not change.

    Refused are the tests of the task and what would be loaded with them; files that configure the test runner, the
    build or git; new links; compiled code; new names that `name_rule` refuses; large new files; what is above or below
    a refused path. What the gold patch itself changes may be changed. `protected` are paths of the work tree that the
    grader writes, `workdir` is where the work tree is evaluated. Refusing is no accusation: that needs evidence.
    """
    rules = PathRules(key, name_rule, frozenset(protected), workdir)
    is_about_pytest = "pytest" in key.repo.lower() or _RUNNER_MACHINERY.search(key.gold_patch) is not None
    refused: dict[str, str] = {}
    evidence: dict[str, str] = {}
    for change in delta.changes:
        reason = rules.refuse(change.path, is_new=change.old is None) or _refuse_content(change, rules)
        line = None if reason or is_about_pytest else _reaches_into_runner(change)
        if line is not None and is_test_name(change.path) and change.path not in rules.allowed:
            reason, line = "reaches into the test runner", None  # honest tests sometimes do
        if reason is not None:
            refused[change.path] = reason
        elif line is not None:
            evidence[change.path] = line
    refused |= _in_the_way_of_refused(delta, refused)
    accepted = tuple(change for change in delta.changes if change.path not in refused)
    lines = (f"{printable(path)} ({reason})" for path, reason in sorted(refused.items()))
    return CleanDelta(
        accepted,
        tuple(dict.fromkeys([*delta.left_out, *lines])),
        tuple(
            f"{printable(path)} reaches into the test runner: {printable(line[:120])}"
            for path, line in evidence.items()
            if path not in refused
        ),
    )


def _in_the_way_of_refused(delta: Delta, refused: Mapping[str, str]) -> dict[str, str]:
    """Paths that cannot be written while a refused change is left out: a file was made a directory, or the reverse."""
    below_refused = {change.path for change in delta.changes if any(path in refused for path in above(change.path))}
    above_refused = {directory for path in refused for directory in above(path)}
    found = below_refused | {change.path for change in delta.changes if change.path in above_refused}
    return dict.fromkeys(found - refused.keys(), "is above or below a path that was left out")


def _refuse_content(change: Change, rules: PathRules) -> str | None:
    new = change.new
    if new is None or change.path in rules.allowed:
        return None
    if not rules.key.gold_command:
        if new.mode == LINK:
            return "is a new link"
        if is_compiled(change.path, new.content):
            return "is compiled code"
    if change.old is None and len(new.content) > MAX_NEW_FILE_BYTES:
        return f"is new and larger than {MAX_NEW_FILE_BYTES} bytes"
    return None


def _reaches_into_runner(change: Change) -> str | None:
    """A line of the new content, and not of the old, that reaches into the machinery of the test runner."""
    if not change.path.endswith(_PYTHON_SOURCE):
        return None
    before = {line.strip() for line in _lines(change.old)}
    lines = (line.strip() for line in _lines(change.new) if _RUNNER_MACHINERY.search(line))
    return next((line for line in lines if line not in before), None)


def _lines(blob: Blob | None) -> list[str]:
    if blob is None or blob.mode == LINK:
        return []
    return blob.content.decode("utf-8", "replace").splitlines()
