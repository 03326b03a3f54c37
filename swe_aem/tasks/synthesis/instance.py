"""One row of a synthetic set, in SWE-bench's columns, from one mutation and what the tests said about it."""

import difflib
import hashlib
import shlex
from collections.abc import Sequence
from typing import Any

from swe_aem.core.scratch import scratch_directory
from swe_aem.tasks.synthesis.codebase import Codebase
from swe_aem.tasks.synthesis.issue import write_issue
from swe_aem.tasks.synthesis.mutate import Mutation
from swe_aem.tasks.synthesis.probe import test_arguments
from swe_aem.tasks.synthesis.probe_pool import TEST_ENVIRONMENT
from swe_aem.tasks.synthesis.probe_result import ProbeResult
from swe_aem.tasks.synthesis.testfile import cut_tests, definition
from swe_aem.tasks.tree import build_tree

CREATED_AT = "2025-01-01T00:00:00Z"
_HEREDOC = "EOF_114329324912"


def make_row(codebase: Codebase, mutation: Mutation, result: ProbeResult) -> dict[str, Any] | None:
    """The row of a mutation; `result` is that of the suite with the mutation in place.

    None if a failing test cannot be hidden, or if no failure can be described.
    """
    clean, counted = codebase.files, codebase.counted(result)
    statement = write_issue(codebase, counted.failures)
    hidden = _hide(codebase, result)
    if statement is None or hidden is None:
        return None
    gold_patch = git_diff(mutation.path, mutation.text, clean[mutation.path])
    test_patch = "".join(git_diff(path, hidden[path], clean[path]) for path in sorted(hidden))
    with scratch_directory("tree") as directory:
        base_commit = build_tree(directory, clean, gold_patch, test_patch)
    return {
        "instance_id": f"{codebase.family}__{codebase.name}-{mutation.kind}-{_hash8(mutation)}",
        "repo": f"{codebase.family}/{codebase.name}",
        "base_commit": base_commit,
        "patch": gold_patch,
        "test_patch": test_patch,
        "problem_statement": statement,
        "hints_text": "",
        "created_at": CREATED_AT,
        "version": codebase.version,
        "FAIL_TO_PASS": sorted(counted.failed),
        "PASS_TO_PASS": sorted(counted.passed),
        "environment_setup_commit": base_commit,
        "image": codebase.image,
        "eval_script": eval_script(base_commit, codebase.tests, codebase.restored, test_patch),
        "log_parser": "parse_log_pytest",
        "eval_type": "pass_and_fail",
        "timeout_s": codebase.timeout_s,
        "mutation_kind": mutation.kind,
        "package": codebase.name,
        "function": mutation.function,
    }


def git_diff(path: str, old: str, new: str) -> str:
    """A patch in git's format that turns `old` into `new`; empty if they are the same."""
    lines = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), f"a/{path}", f"b/{path}", n=3
    )
    body = "".join(lines)
    return f"diff --git a/{path} b/{path}\n{body}" if body else ""


def eval_script(base_commit: str, tests: Sequence[str], restored: Sequence[str], test_patch: str) -> str:
    """The evaluation script, in SWE-bench's format but without conda.

    All test files, their helpers and data are restored, not only those of the test patch: an edited test that the patch
    does not touch must not count. Nothing of the patch under test is printed, which could contain the markers.
    """
    files = shlex.join(restored)
    exports = " ".join(f"{name}={value}" for name, value in sorted(TEST_ENVIRONMENT.items()))
    lines = [
        "#!/bin/bash",
        "set -uxo pipefail",
        "cd /testbed",
        "git config --global --add safe.directory /testbed",
        "git status --short",
        f"export {exports}",
        f"git checkout {base_commit} {files}",
        f"git apply -v - <<'{_HEREDOC}'",
        test_patch.rstrip("\n"),
        "",
        _HEREDOC,
        ": '>>>>> Start Test Output'",
        "python -m pytest -rA --tb=no " + shlex.join(test_arguments([*tests])),
        ": '>>>>> End Test Output'",
        f"git checkout {base_commit} {files}",
    ]
    return "\n".join(lines) + "\n"


def _hide(codebase: Codebase, result: ProbeResult) -> dict[str, str] | None:
    """Test files without the tests that fail; None if one of those is defined nowhere in its file."""
    names: dict[str, set[str]] = {}
    for test in result.failed:
        path, name = definition(test)
        names.setdefault(path, set()).add(name)
    try:
        return {path: cut_tests(codebase.files[path], found) for path, found in names.items()}
    except LookupError:
        return None


def _hash8(mutation: Mutation) -> str:
    return hashlib.sha256(f"{mutation.path}\0{mutation.text}".encode()).hexdigest()[:8]
