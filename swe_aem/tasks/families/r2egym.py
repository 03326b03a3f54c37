"""R2E-Gym (https://github.com/R2E-Gym/R2E-Gym): every test must end as it does with the fix, failures included.

Rows have no id; the tag of the image is unique. The tests lie in the image, at /r2e_tests, and are hidden from agents,
as is `run_tests.sh`. The gold patch is made of the commit's own diff: its Python files that are no tests, which is what
R2E-Gym's `ParsedCommit.get_patch` takes.
"""

import re
from typing import Any

from swe_aem.core import AnswerKey, Task, TaskRecord
from swe_aem.tasks.families.fields import COMMIT, NAME, Fields
from swe_aem.tasks.families.reading import Reading
from swe_aem.tasks.families.rows import Row
from swe_aem.tasks.families.script import marked_script

_HIDDEN = (
    "/r2e_tests", "r2e_tests", "run_tests.sh", "syn_issue.json", "expected_test_output.json", "execution_result.json",
    "parsed_commit.json", "modified_files.json", "modified_entities.json",
)  # fmt: skip
"""Hidden paths: the tests, the script that runs them, and files of early images that contain the answer."""
_WORKDIR = "/testbed"
_TIMEOUT_S = 300.0
_ANSI = re.compile(r"\x1b\[\d+(?:;\d+)*m")
_STATUSES = ("PASSED", "FAILED", "ERROR", "SKIPPED", "XFAIL")
_SIGNS = {"context": " ", "added": "+", "deleted": "-", "note": "\\ "}
_TEST_PARTS = frozenset({"test", "tests", "Test", "Tests"})


def recognise(row: Row) -> bool:
    """Does the row say how every test ends?"""
    return "expected_output_json" in row and "docker_image" in row


def task_id(row: Row) -> str | None:
    """The id of a row's task; None if the row lacks a part of it."""
    repo, tag = row.get("repo_name"), str(row["docker_image"]).rpartition(":")[2]
    return f"{repo}__{tag}" if repo and tag else None


def read(where: str, row: Row, reading: Reading) -> TaskRecord:
    """Turn one row into a record."""
    field = Fields(where, row)
    image = field.text("docker_image")
    _, colon, tag = image.rpartition(":")
    if not colon or not NAME.fullmatch(tag):
        raise field.fail("docker_image", f"is {image!r}, which has no tag, and the task is named after the tag")
    repo = field.matching("repo_name", NAME, "a name of a repository")
    commit = field.object("parsed_commit_content")
    expected = _expected(field)
    task = Task(
        id=f"{repo}__{tag}",
        repo=f"r2e-gym/{repo}",
        base_commit=_base_commit(commit),
        problem_statement=_issue(field.text("problem_statement")),
        image=image,
        workdir=_WORKDIR,
    )
    key = AnswerKey(
        task_id=task.id,
        repo=task.repo,
        version=tag,
        gold_patch=_gold(field, commit),
        test_patch="",
        eval_script=marked_script(
            f"bash {_WORKDIR}/run_tests.sh",
            setup=(f"cd {_WORKDIR}", "[ -e r2e_tests ] || ln -s /r2e_tests r2e_tests"),
        ),
        log_parser="r2egym",
        eval_type="exact_map",
        fail_to_pass=tuple(test for test, status in expected.items() if status == "PASSED"),
        pass_to_pass=(),
        timeout_s=field.timeout(_TIMEOUT_S),
        expected=expected,
        hidden=_HIDDEN,
    )
    return TaskRecord(task=task, key=key, split=reading.split)


def _expected(field: Fields) -> dict[str, str]:
    expected = {}
    for name, status in field.object("expected_output_json").items():
        if status not in _STATUSES:
            raise field.fail("expected_output_json", f"has for {name!r} the status {status!r}")
        expected[_ANSI.sub("", name).split(" - ")[0].rstrip()] = status
    if "PASSED" not in expected.values():
        raise field.fail("expected_output_json", "has no test that passes: at least one must pass after the fix")
    return expected


def _issue(statement: str) -> str:
    found = re.search(r"\[ISSUE\](.*)\[/ISSUE\]", statement, re.DOTALL)
    return (found[1] if found else statement).strip()


def _base_commit(commit: dict[str, Any]) -> str:
    """The commit before the fix, where the row has its id; some have `<fix>^`."""
    old = str(commit.get("old_commit_hash", ""))
    return old if COMMIT.fullmatch(old) else ""


def _gold(field: Fields, commit: dict[str, Any]) -> str:
    try:
        files = [diff for diff in commit["file_diffs"] if _is_source(diff["header"]["file"]["path"])]
        patch = "".join(_section(diff) for diff in files)
    except (KeyError, TypeError) as error:
        raise field.fail("parsed_commit_content", f"is not in R2E-Gym's form ({error!r})") from error
    if not patch:
        raise field.fail("parsed_commit_content", "changes no Python file other than tests: there is no gold patch")
    return patch


def _is_source(path: str) -> bool:
    parts = path.split("/")
    is_test = parts[-1].startswith("test_") or path.endswith("_test.py") or not _TEST_PARTS.isdisjoint(parts)
    return path.endswith(".py") and not is_test


def _section(diff: dict[str, Any]) -> str:
    """One file of the diff as git writes it."""
    header, index = diff["header"], diff.get("index_line")
    path = header["file"]["path"]
    lines = [f"diff --git a/{path} b/{path}"]
    if header.get("misc_line"):
        lines.append(header["misc_line"])
    if index:
        lines.append(f"index {index['old_commit_hash']}..{index['new_commit_hash']} {index['mode']}".rstrip())
    if diff.get("minus_file") and diff.get("plus_file"):
        lines += [f"--- {diff['minus_file']['path']}", f"+++ {diff['plus_file']['path']}"]
    for hunk in diff.get("hunks") or ():
        at = hunk["descriptor"]
        lines.append(f"@@ -{_range(at['old_range'])} +{_range(at['new_range'])} @@ {at.get('section') or ''}".rstrip())
        lines += [_SIGNS[line["type"]] + line["content"] for line in hunk["line_group"]["all_lines"]]
    return "".join(f"{line}\n" for line in lines)


def _range(part: dict[str, Any]) -> str:
    return str(part["start"]) if part.get("length") is None else f"{part['start']},{part['length']}"
