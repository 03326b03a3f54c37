"""Multi-SWE-bench and Multi-SWE-RL (https://github.com/multi-swe-bench/multi-swe-bench): a pull request per row.

The repository is at /home/<repo>. Beside it are the test patch, the fix, and scripts that apply them, all hidden from
agents. Grading applies the patch under test and runs `test-run.sh`, which applies the test patch and runs the tests.
"""

from typing import Any

from swe_aem.core import AnswerKey, Task, TaskRecord
from swe_aem.tasks.families.fields import COMMIT, NAME, Fields
from swe_aem.tasks.families.reading import Reading
from swe_aem.tasks.families.rows import Row
from swe_aem.tasks.families.script import marked_script

_HIDDEN = ("/home/fix.patch", "/home/test.patch", "/home/fix-run.sh", "/home/test-run.sh")
_FIXED = ("f2p_tests", "s2p_tests", "n2p_tests")
"""Columns of tests that the fix turns from failed, skipped or absent to passed."""


def recognise(row: Row) -> bool:
    """Does the row have the fix of a numbered pull request?"""
    return {"org", "repo", "number", "fix_patch"} <= row.keys()


def task_id(row: Row) -> str | None:
    """The id of a row's task; None if the row lacks a part of it."""
    parts = [row.get(column) for column in ("org", "repo", "number")]
    return "{}__{}-{}".format(*parts) if all(parts) else None


def read(where: str, row: Row, reading: Reading) -> TaskRecord:
    """Turn one row into a record."""
    field = Fields(where, row)
    org = field.matching("org", NAME, "a name of an organisation")
    repo = field.matching("repo", NAME, "a name of a repository")
    number = field.value("number")
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise field.fail("number", f"is {number!r}, not the number of a pull request")
    base = field.object("base").get("sha")
    if not isinstance(base, str) or not COMMIT.fullmatch(base):
        raise field.fail("base", f"has as sha {base!r}, not a commit id in hexadecimal digits")
    fixed = tuple(dict.fromkeys(test for column in _FIXED for test in _tests(field, column)))
    if not fixed:
        raise field.fail(
            "f2p_tests",
            "is empty, like s2p_tests and n2p_tests: one test must fail before the fix and pass after it",
        )
    test_patch = field.text("test_patch")
    task = Task(
        id=f"{org}__{repo}-{number}",
        repo=f"{org}/{repo}",
        base_commit=base,
        problem_statement=_issues(field),
        image=f"mswebench/{org}_m_{repo}:pr-{number}".lower(),
        workdir=f"/home/{repo}",
    )
    key = AnswerKey(
        task_id=task.id,
        repo=task.repo,
        version=str(number),
        gold_patch=field.text("fix_patch"),
        test_patch=test_patch,
        eval_script=marked_script("bash /home/test-run.sh", setup=(f"cd {task.workdir}",)),
        log_parser=field.parser() if field.has("log_parser") else "multi_swe_bench",
        eval_type="pass_and_fail",
        fail_to_pass=fixed,
        pass_to_pass=_tests(field, "p2p_tests"),
        timeout_s=field.timeout(),
        hidden=_HIDDEN,
        files={"/home/test.patch": test_patch.encode()},
    )
    return TaskRecord(task=task, key=key, split=reading.split)


def _tests(field: Fields, column: str) -> tuple[str, ...]:
    """Names of a column of tests: a dictionary by name, in Parquet also a list of such with names."""
    return tuple(field.object(column)) if field.has(column) else ()


def _issues(field: Fields) -> str:
    """The texts of the issues; the pull request's own text describes the fix."""
    issues = field.value("resolved_issues")
    if hasattr(issues, "tolist"):  # numpy, through pandas
        issues = issues.tolist()
    texts = [_issue_text(issue) for issue in issues] if isinstance(issues, list | tuple) else []
    statement = "\n\n".join(text for text in texts if text)
    if not statement:
        raise field.fail("resolved_issues", "has no issue with a title or a body")
    return statement


def _issue_text(issue: Any) -> str:
    if not isinstance(issue, dict):
        return ""
    return "\n\n".join(str(issue[part]).strip() for part in ("title", "body") if issue.get(part)).strip()
