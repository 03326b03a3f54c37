"""Tasks from commits of a git repository on this host: no image, no script, and no patch has to be made for them.

    {"instance_id": "shelf-1", "repository": "shelf", "fix_commit": "4f1c…", "problem_statement": "…",
     "FAIL_TO_PASS": ["tests/test_shelf.py::test_empty"]}

The task starts from the parent of the fix. What the fix changes in tests is the test patch, and the rest is the gold
patch; a row may have `base_commit`, `patch` and `test_patch` instead. The working tree is put into the sandbox.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from swe_aem.core import AnswerKey, Task, TaskRecord
from swe_aem.errors import UserError
from swe_aem.sandbox.host_system import HOST_IMAGE
from swe_aem.tasks.families.fields import Fields
from swe_aem.tasks.families.reading import Reading
from swe_aem.tasks.families.rows import Row
from swe_aem.tasks.families.script import evaluation_script
from swe_aem.tasks.families.specs_file import RepoSpec
from swe_aem.tasks.git_tree import resolved_commit, split_diff

TEST_COMMAND = "python -m pytest -rA -p no:cacheprovider"
"""How tests are run where nothing else is said; the files of the test patch are appended."""


_COLUMNS = (
    "instance_id", "repository", "problem_statement", "FAIL_TO_PASS", "PASS_TO_PASS", "fix_commit", "base_commit",
    "patch", "test_patch", "test_cmd", "log_parser", "image", "workdir", "timeout_s", "repo",
)  # fmt: skip
_LIKENESS = 0.8
"""Share of matching characters from which a column is a misspelt one; columns of other purposes are left alone."""


def recognise(row: Row) -> bool:
    """Does the row name a repository, and a commit of it?"""
    return "repository" in row and ("fix_commit" in row or "base_commit" in row)


def read(where: str, row: Row, reading: Reading) -> TaskRecord:
    """Turn one row into a record."""
    field = Fields(where, row)
    for name in row.keys() - set(_COLUMNS):
        if meant := difflib.get_close_matches(name, [one for one in _COLUMNS if not field.has(one)], 1, _LIKENESS):
            raise field.fail(name, f"is not read; did you mean {meant[0]}? Otherwise call the column something else")
    if reading.directory is None:
        raise field.fail("repository", "is a directory of this host, which rows of the hub cannot name")
    given: dict[str, Any] = {
        name: field.text(column)
        for column, name in (
            ("fix_commit", "fix_commit"),
            ("base_commit", "base_commit"),
            ("patch", "gold_patch"),
            ("test_patch", "test_patch"),
            ("image", "image"),
            ("workdir", "workdir"),
            ("repo", "repo"),
        )
        if field.has(column)
    }
    if field.has("test_cmd"):
        given["test_cmd"] = field.commands("test_cmd", field.value("test_cmd"))
    if field.has("log_parser"):
        given["log_parser"] = field.parser()
    try:
        return git_task(
            field.id(),
            reading.directory / Path(field.text("repository")).expanduser(),
            field.text("problem_statement"),
            field.names("FAIL_TO_PASS", required=True),
            pass_to_pass=field.names("PASS_TO_PASS", required=False) if field.has("PASS_TO_PASS") else (),
            timeout_s=field.timeout(),
            split=reading.split,
            **given,
        )
    except UserError as error:
        raise UserError(f"{where}: {str(error).removeprefix(f'{where}: ')}") from None


def git_task(
    id: str,
    repository: Path | str,
    problem_statement: str,
    fail_to_pass: Sequence[str],
    *,
    fix_commit: str | None = None,
    base_commit: str | None = None,
    gold_patch: str | None = None,
    test_patch: str | None = None,
    pass_to_pass: Sequence[str] = (),
    test_cmd: str | Sequence[str] = TEST_COMMAND,
    select: str | None = None,
    log_parser: str = "parse_log_pytest",
    image: str = HOST_IMAGE,
    workdir: str = Task.model_fields["workdir"].default,
    timeout_s: float = AnswerKey.model_fields["timeout_s"].default,
    repo: str | None = None,
    split: str | None = None,
) -> TaskRecord:
    """A task whose working tree is a commit of a git repository on this host.

    Args:
        id: name of the task, without slashes and white space.
        repository: directory of the repository. Nothing is ever written to it.
        problem_statement: what the agent reads.
        fail_to_pass: tests that fail before the fix and pass after it, as `log_parser` names them; for pytest their
            ids, such as `tests/test_shelf.py::test_empty`.
        fix_commit: the commit that fixes the problem. `base_commit` is its first parent then, and the patches are what
            it changes; each of these may be given instead.
        base_commit: the commit that an agent starts from.
        gold_patch: the solution, a git diff against `base_commit`.
        test_patch: the tests, which an agent never sees, a git diff against `base_commit`.
        pass_to_pass: tests that pass before the fix and must not break.
        test_cmd: the command that runs the tests, or several. By default pytest on the files of the test patch.
        select: what is appended to the last command: `files` of the test patch, or `none`. By default `files` if the
            command is the default one, else `none`.
        log_parser: what reads the output of the tests.
        image: what has the programs that the tests need. By default a plain Python with git and pytest: on bubblewrap
            this host's own, elsewhere the image of `swe-aem images build micro`.
        workdir: where the working tree lies in a sandbox.
        timeout_s: limit of the tests in seconds.
        repo: `owner/name`, for tables and choices; by default `local/` and the directory's name.

    Raises:
        errors.UserError: there is no such repository or commit, or a part is missing.
    """
    place = Path(repository).expanduser().resolve()
    if fix_commit is not None:
        fix = resolved_commit(place, fix_commit)
        base = resolved_commit(place, base_commit or f"{fix}^1")
        code, tests = split_diff(place, base, fix)
        gold_patch = code if gold_patch is None else gold_patch
        test_patch = tests if test_patch is None else test_patch
        if not gold_patch:
            raise UserError(f"{place}: commit {fix[:12]} changes no file but tests, so there is no gold patch")
        if not test_patch:
            raise UserError(
                f"{place}: commit {fix[:12]} changes no test (a file in tests/, or test_*.py): give test_patch"
            )
    elif base_commit is None or gold_patch is None or test_patch is None:
        raise UserError(f"task {id} needs fix_commit, or base_commit, patch and test_patch")
    else:
        base = resolved_commit(place, base_commit)
    commands = (test_cmd,) if isinstance(test_cmd, str) else tuple(test_cmd)
    chosen = select or ("files" if commands == (TEST_COMMAND,) else "none")
    if chosen not in ("files", "none"):
        raise UserError(f"task {id}: select is {chosen!r}, not files or none")
    spec = RepoSpec(test_cmd=commands, select="files" if chosen == "files" else "none")
    name = repo or f"local/{place.name}"
    return TaskRecord(
        task=Task(
            id=id, repo=name, base_commit=base, problem_statement=problem_statement, image=image, workdir=workdir
        ),
        key=AnswerKey(
            task_id=id,
            repo=name,
            version="",
            gold_patch=gold_patch,
            test_patch=test_patch,
            eval_script=evaluation_script(spec, base, test_patch, workdir=workdir, activate=()),
            log_parser=log_parser,
            eval_type="pass_and_fail",
            fail_to_pass=tuple(fail_to_pass),
            pass_to_pass=tuple(pass_to_pass),
            timeout_s=timeout_s,
        ),
        split=split,
        repository=place,
    )
