"""SWE-smith (https://github.com/SWE-bench/SWE-smith): `patch` is the bug, and its reverse is the gold patch.

The image holds the clean repository. The bug is applied when a sandbox is prepared; the files of the tests that it
breaks are hidden from the agent, as on the branches that SWE-smith publishes. Only these files are run, so only their
tests count.
"""

import re
import shlex
from collections.abc import Sequence

from swe_aem.core import AnswerKey, Task, TaskRecord
from swe_aem.tasks.families.fields import COMMIT, NAME, Fields
from swe_aem.tasks.families.reading import Reading
from swe_aem.tasks.families.reverse import reverse_patch
from swe_aem.tasks.families.rows import Row
from swe_aem.tasks.families.script import ACTIVATE, marked_script

_PYTEST = "pytest --disable-warnings --color=no --tb=no --verbose"
_COMMANDS = {
    # Facts from SWE-bench/SWE-smith, swesmith/constants.py and harness/log_parsers.py (2025-06-19).
    "HIPS/autograd": (_PYTEST, "swesmith_xdist"),
    "gin-gonic/gin": ("go test -v ./...", "parse_log_gotest"),
    "mido/mido": (f"{_PYTEST} -rs -c /dev/null", "swesmith_pytest"),
    "paramiko/paramiko": ("pytest -rA --color=no --disable-warnings", "parse_log_pytest"),
    "pydantic/pydantic": (f"/root/.local/bin/uv run {_PYTEST}", "swesmith_pytest"),
    "python/mypy": ("pytest --color=no -rA -k", "swesmith_mypy"),
    "tkrajina/gpxpy": ("pytest test.py --verbose --color=no --tb=no --disable-warnings", "swesmith_pytest"),
    "tornadoweb/tornado": ("python -m tornado.test --verbose", "swesmith_unittest"),
    "un33k/python-slugify": ("python test.py --verbose", "swesmith_unittest"),
}
"""Repository to test command and parser, where they are not the usual ones."""
_ORGANISATION = "jyangballin"


def recognise(row: Row) -> bool:
    """Does the row name an image in SWE-smith's way, and no test patch?"""
    return "image_name" in row and "test_patch" not in row


def read(where: str, row: Row, reading: Reading) -> TaskRecord:
    """Turn one row into a record. Many rows of SWE-smith have no problem statement, and are no tasks."""
    field = Fields(where, row)
    task_id = field.id()
    owner, _, name = task_id.split(".")[0].partition("__")
    if not NAME.fullmatch(owner) or not NAME.fullmatch(name):
        raise field.fail("instance_id", f"is {task_id!r}, not owner__name.commit.kind")
    repo, bug = f"{owner}/{name}", field.text("patch")
    try:
        gold = reverse_patch(bug)
    except ValueError as error:
        raise field.fail("patch", f"cannot be reversed ({error})") from error
    command, parser = _command(field, row, repo)
    failing, passing = field.names("FAIL_TO_PASS", required=True), field.names("PASS_TO_PASS", required=False)
    files = _files(failing) if parser == "swesmith_pytest" or command.startswith("pytest -rA") else ()
    if parser == "swesmith_mypy":
        command = f"{command} {shlex.quote(' or '.join(test.rsplit('::', 1)[-1] for test in failing))}"
        passing = ()  # -k selects the failing ones only
    elif files:
        command = f"{command} {shlex.join(path for path in files if path not in command.split())}".rstrip()
        passing = tuple(test for test in passing if test.partition("::")[0] in files)
    task = Task(
        id=task_id,
        repo=repo,
        base_commit=_base_commit(field),
        problem_statement=field.text("problem_statement"),
        image=image(field.text("image_name")),
    )
    key = AnswerKey(
        task_id=task_id,
        repo=repo,
        version=task_id.split(".")[1] if "." in task_id else "",
        gold_patch=gold,
        test_patch="",
        eval_script=marked_script(command, setup=(*ACTIVATE, f"cd {task.workdir}")),
        log_parser=parser,
        eval_type="pass_and_fail",
        fail_to_pass=failing,
        pass_to_pass=passing,
        timeout_s=field.timeout(),
        setup_patch=bug if bug.endswith("\n") else bug + "\n",
        hidden=files,
    )
    return TaskRecord(task=task, key=key, split=reading.split)


def image(name: str) -> str:
    """The image that a row's `image_name` means: early rows leave out the organisation and have `__` in the name."""
    return name if "/" in name else f"{_ORGANISATION}/{name.replace('__', '_1776_')}"


def _command(field: Fields, row: Row, repo: str) -> tuple[str, str]:
    """Test command and parser: the row's own optional columns, or what is known about the repository."""
    known = {name.lower(): found for name, found in _COMMANDS.items()}
    command, parser = known.get(repo.lower(), (_PYTEST, "swesmith_pytest"))
    if field.has("test_cmd"):
        command = field.text("test_cmd")
    if field.has("log_parser"):
        parser = field.parser()
    if parser == "swesmith_pytest" and not all(".py" in test for test in field.names("FAIL_TO_PASS", required=True)):
        raise field.fail(
            "FAIL_TO_PASS",
            f"has tests that are not pytest's, and how {repo} is tested is not known; add the columns test_cmd and "
            "log_parser",
        )
    return command, parser


def _files(tests: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(test.partition("::")[0] for test in tests if re.match(r"[^/\s].*\.py(?:::|$)", test)))


def _base_commit(field: Fields) -> str:
    """The commit with the bug, which the image does not have; some rows do not name it."""
    return (
        field.matching("base_commit", COMMIT, "a commit id in hexadecimal digits") if field.has("base_commit") else ""
    )
