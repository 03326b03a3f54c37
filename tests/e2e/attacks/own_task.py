"""Small tasks with a repository of their own: a package whose `add` subtracts, in a work tree that can be odd, or with
tests that run in an odd way."""

import compileall
import hashlib
import os
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from swe_aem.cache import cache_dir
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
    """The test command, or several lines."""
    before_tests: str = ""
    """Lines of the evaluation script before its start marker."""
    packages: tuple[str, ...] = ()
    """Requirements of a virtual environment that the image has in `.venv` and the evaluation activates."""
    tests: dict[str, str] = Field(default_factory=lambda: {"tests/test_core.py": _TEST})
    """Files that the test patch makes."""
    fail_to_pass: tuple[str, ...] = ("tests/test_core.py::test_add",)
    pass_to_pass: tuple[str, ...] = ("tests/test_old.py::test_old",)
    expected: dict[str, str] = Field(default_factory=dict)
    """Each test's status, for `exact_map`."""
    log_parser: str = "parse_log_pytest"
    eval_type: str = "pass_and_fail"
    timeout_s: float = 120.0
    """Limit of the test command."""


class MadeTask(NamedTuple):
    """A task that can be rolled out."""

    record: TaskRecord
    workspace: Path


def make(name: str, task: OwnTask, directory: Path, kind: str = "bubblewrap") -> MadeTask:
    """Make the repository of a task below `directory`, for that backend."""
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
    test_patch = diff(tree, task.tests)
    changed = [path for path in task.tests if (tree / path).exists()]
    if task.packages:
        write(tree / ".git", {"info/exclude": ".venv\n"})
        _make_environment(tree / ".venv", task.packages, kind)
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
        eval_script=_eval_script(task, commit, changed, test_patch),
        log_parser=task.log_parser,
        eval_type=task.eval_type,
        fail_to_pass=task.fail_to_pass,
        pass_to_pass=task.pass_to_pass,
        expected=task.expected,
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


def _eval_script(task: OwnTask, commit: str, changed: list[str], test_patch: str) -> str:
    lines = [
        "#!/bin/bash",
        "set -uxo pipefail",
        f"cd {WORKDIR}",
        'git config --global --add safe.directory "$PWD"',
        *([f"export PATH={WORKDIR}/.venv/bin:$PATH"] if task.packages else []),
        *([f"git checkout {commit} {' '.join(changed)}"] if changed else []),
        "git apply -v - <<'EOF_114329324912'",
        test_patch.rstrip("\n"),
        "EOF_114329324912",
        *task.before_tests.splitlines(),
        ": '>>>>> Start Test Output'",
        *task.command.rstrip("\n").split("\n"),
        ": '>>>>> End Test Output'",
        "",
    ]
    return "\n".join(lines)


def _make_environment(directory: Path, packages: tuple[str, ...], kind: str) -> None:
    """A virtual environment for the Python that sandboxes of that backend have."""
    here = f"python{sys.version_info.major}.{sys.version_info.minor}"
    there = "python3.11" if kind == "docker" else here
    base = Path("/usr/bin") if kind == "docker" else Path(sys.base_prefix).resolve() / "bin"
    (directory / "bin").mkdir(parents=True)
    for name in ("python", "python3"):
        (directory / "bin" / name).symlink_to(base / there)
    runner = directory / "bin" / "pytest"
    runner.write_text(f"#!{WORKDIR}/.venv/bin/python\nimport pytest\n\nraise SystemExit(pytest.main())\n")
    runner.chmod(0o755)
    (directory / "pyvenv.cfg").write_text(f"home = {base}\ninclude-system-site-packages = false\n")
    shutil.copytree(_installed(packages), directory / "lib" / there / "site-packages", copy_function=os.link)


def _installed(packages: tuple[str, ...]) -> Path:
    """Packages from PyPI, installed once on this host. Those with compiled parts have a fallback for other Pythons."""
    target = cache_dir() / "test-packages" / hashlib.sha256(" ".join(packages).encode()).hexdigest()[:16]
    if not target.exists():
        draft = target.with_name(f"{target.name}.{os.getpid()}")
        install = ["uv", "pip", "install", "-q", "--python", sys.executable, "--target", str(draft), *packages]
        subprocess.run(install, check=True)
        compileall.compile_dir(draft, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
        try:
            draft.rename(target)
        except OSError:  # another process was faster
            shutil.rmtree(draft)
    return target
