"""Small tasks with a repository of their own: a package whose `add` subtracts, in a work tree that can be odd."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from swe_aem.core import AnswerKey, Task, TaskRecord
from swe_aem.core.base import Frozen

BROKEN, RIGHT = "def add(a, b):\n    return a - b\n", "def add(a, b):\n    return a + b\n"
FIX = "sed -i 's/a - b/a + b/' {}/core.py"
AS_AN_AUTHOR = "git -c user.name=a -c user.email=a@example.org"
IMAGE, WORKDIR = "swe-aem/micro:1", "/testbed"
_ENCODINGS = {"!latin1 ": "latin-1", "!utf8 ": "utf-8", "!utf16 ": "utf-16"}
_ENV = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    **{f"GIT_{who}_DATE": "2024-01-01T00:00:00Z" for who in ("AUTHOR", "COMMITTER")},
}
_TEST = "from calc.core import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n"


class OwnTask(Frozen):
    """How a task differs from the plain one."""

    files: dict[str, str | None] = Field(default_factory=dict)
    """Files of the base commit; None leaves one out that the plain task has. `!latin1 ` in front sets the encoding."""
    fix: dict[str, str] = Field(default_factory=lambda: {"calc/core.py": RIGHT})
    """Files after the gold patch."""
    fix_command: str | None = None
    """A command that makes the gold patch instead."""
    setup: dict[str, str] = Field(default_factory=dict)
    """Files that a setup patch plants; the gold patch takes them back."""
    image: str = ""
    """A command that makes the work tree of the image out of the base commit's."""
    committed: bool = False
    """Does that command commit a new base?"""
    without_git: bool = False
    """Has the image no repository?"""
    key_files: dict[str, str] = Field(default_factory=dict)
    """Files that the answer key puts into the grading sandbox."""
    command: str = "python -m pytest -p no:cacheprovider -rA tests"
    """The test command."""
    eval_type: str = "pass_and_fail"
    timeout_s: float = 120.0
    """Limit of the test command."""


class MadeTask(NamedTuple):
    """A task that can be rolled out."""

    record: TaskRecord
    workspace: Path


def make(name: str, task: OwnTask, directory: Path) -> MadeTask:
    """Make the repository of a task below `directory`."""
    tree = directory / name
    tree.mkdir(parents=True)
    base = {"calc/__init__.py": "", "calc/core.py": BROKEN, "tests/test_old.py": "def test_old():\n    assert True\n"}
    git(tree, "init", "-q", "-b", "main")
    write(tree, {name: text for name, text in {**base, **task.files}.items() if text is not None})
    git(tree, "add", "-A", "-f")
    git(tree, "commit", "-q", "-m", "base")
    setup, gold = "", diff(tree, task.fix, task.fix_command)
    if task.setup:
        setup, gold = diff(tree, task.setup), diff(tree, task.setup, reverse=True)
    test_patch = diff(tree, {"tests/test_core.py": _TEST})
    if task.image:
        subprocess.run(["bash", "-c", expand(task.image)], cwd=tree, env=_ENV, check=True, capture_output=True)
    commit = git(tree, "rev-parse", "HEAD" if task.committed else "main").strip()
    if task.without_git:
        shutil.rmtree(tree / ".git")
    id = f"own__{name}-1"
    key = AnswerKey(
        task_id=id,
        repo="own/calc",
        version="1",
        gold_patch=gold,
        test_patch=test_patch,
        setup_patch=setup,
        eval_script=_eval_script(test_patch, task.command),
        log_parser="parse_log_pytest",
        eval_type=task.eval_type,
        fail_to_pass=("tests/test_core.py::test_add",),
        pass_to_pass=("tests/test_old.py::test_old",),
        files={path: text.encode() for path, text in task.key_files.items()},
        timeout_s=task.timeout_s,
    )
    base_commit = "" if task.without_git else commit
    statement = "`calc.core.add` subtracts."
    made = Task(
        id=id, repo="own/calc", base_commit=base_commit, problem_statement=statement, image=IMAGE, workdir=WORKDIR
    )
    return MadeTask(TaskRecord(task=made, key=key), tree)


def expand(text: str) -> str:
    """A command with the words that oddities.yaml explains."""
    text = text.replace("@COMMIT@", f"{AS_AN_AUTHOR} commit").replace("@AS_A@", AS_AN_AUTHOR)
    while "@FIXAT " in text:
        before, _, rest = text.partition("@FIXAT ")
        where, _, after = rest.partition("@")
        text = before + FIX.format(where) + after
    return text.replace("@FIX@", FIX.format("calc"))


def git(tree: Path, *words: str) -> str:
    """Run git on this host in a repository of ours."""
    done = subprocess.run(["git", *words], cwd=tree, env=_ENV, capture_output=True, check=True)
    return done.stdout.decode("utf-8", "surrogateescape")


def write(tree: Path, files: dict[str, str]) -> None:
    """Write files below the tree."""
    for name, text in files.items():
        encoding = next((known for known in _ENCODINGS if text.startswith(known)), None)
        data = text.removeprefix(encoding).encode(_ENCODINGS[encoding]) if encoding else text.encode()
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(data)


def diff(tree: Path, files: dict[str, str], command: str | None = None, *, reverse: bool = False) -> str:
    """The diff that makes these files, or that a command makes, on top of HEAD; the tree is clean again afterwards."""
    if command is None:
        write(tree, files)
    else:
        subprocess.run(["bash", "-c", command], cwd=tree, env=_ENV, check=True)
    git(tree, "add", "-A", "-f")
    text = git(tree, "diff", "--cached", "--binary", "--no-renames", *(["-R"] if reverse else []))
    git(tree, "reset", "-q", "--hard")
    git(tree, "clean", "-fdxq")
    return text


def _eval_script(test_patch: str, command: str) -> str:
    lines = [
        "#!/bin/bash",
        "set -uxo pipefail",
        f"cd {WORKDIR}",
        'git config --global --add safe.directory "$PWD"',
        "git apply -v - <<'EOF_114329324912'",
        test_patch.rstrip("\n"),
        "EOF_114329324912",
        ": '>>>>> Start Test Output'",
        command,
        ": '>>>>> End Test Output'",
        "",
    ]
    return "\n".join(lines)
