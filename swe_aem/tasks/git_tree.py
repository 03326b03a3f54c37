"""Git repositories of this host as the source of tasks: their commits, diffs, and working trees for sandboxes."""

import hashlib
import re
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import IO

from swe_aem.cache import cache_dir
from swe_aem.core.scratch import scratch_directory
from swe_aem.errors import InfrastructureError, UserError
from swe_aem.tasks.tree import git, git_environment

_FORMAT = "1"
"""Part of the cache's key; raise it when the trees come out otherwise."""
_ID = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})(?:\^1)?")
_TEST_NAME = re.compile(r"(?:^|/)(?:tests?|testing|__tests__)/|(?:^|/)(?:test_[^/]*|[^/]*_test|conftest)\.\w+$")


def resolved_commit(repository: Path, commit: str) -> str:
    """The full id of a commit of a repository. Raises `UserError` if it has none of that name."""
    return (_resolved_id if _ID.fullmatch(commit) else _resolved)(repository, commit)


def _resolved(repository: Path, commit: str) -> str:
    if not repository.is_dir():
        raise UserError(f"there is no directory {repository}, and no git repository")
    try:
        if below := git(repository, "rev-parse", "--show-prefix").strip():
            top = repository.parents[below.strip("/").count("/")]
            raise UserError(f"{repository} is not the top of its git repository, which is {top}: name that one")
        return git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}").strip()
    except InfrastructureError as error:
        why = str(error).partition(": ")[2].removeprefix("fatal: ") or f"it has no commit {commit}"
        raise UserError(f"{repository}: {why}; give a git repository, and a commit that it has") from None


_resolved_id = lru_cache(maxsize=4096)(_resolved)
"""The same for full ids. What a branch or HEAD names may change while this process lives."""


def split_diff(repository: Path, old: str, new: str) -> tuple[str, str]:
    """What changes from one commit to another: the diff of the code, and that of the tests. A file is a test's if it
    lies in `test`, `tests`, `testing` or `__tests__`, or is called `test_*`, `*_test.*` or `conftest.*`."""
    names = git(repository, "diff", "--no-renames", "--name-only", "-z", old, new).split("\0")
    tests = [name for name in names if name and _TEST_NAME.search(name)]
    code = [name for name in names if name and name not in tests]
    return _diff(repository, old, new, code), _diff(repository, old, new, tests)


def _diff(repository: Path, old: str, new: str, paths: list[str]) -> str:
    if not paths:
        return ""
    options = ["--no-renames", "--binary", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv"]
    try:
        return _run(repository, ["--literal-pathspecs", "diff", *options, old, new, "--", *paths]).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{repository}: the diff to {new[:12]} is not UTF-8 at byte {error.start}") from None


def git_workspace(repository: Path, commit: str) -> Path:
    """Host directory with the tree of a commit and the history up to it, made if the cache has none: never write to it.

    The tree is on the branch `main`. Submodules, remotes, hooks and configuration of the repository are not taken over.
    Raises `UserError` if the cache cannot be written or the repository has no such commit.
    """
    commit = resolved_commit(repository, commit)
    parent = cache_dir() / "workspaces" / "git"
    # An agent can read this path in its sandbox's mount table, so it says nothing of the task.
    target = parent / hashlib.sha256(f"{_FORMAT} {commit}".encode()).hexdigest()[:16]
    if target.is_dir():
        return target
    with ExitStack() as stack:
        try:
            parent.mkdir(parents=True, exist_ok=True)
            scratch = stack.enter_context(scratch_directory("tree", parent)) / "tree"
            scratch.mkdir(mode=0o755)
        except (OSError, InfrastructureError) as error:
            raise UserError(
                f"{parent}: cannot be written ({error}); set SWE_AEM_CACHE to a directory that can be written"
            ) from error
        _check_out(repository, commit, scratch)
        try:
            scratch.rename(target)
        except OSError:
            if not target.is_dir():  # otherwise another thread or process made the same tree first
                raise
    return target


def _check_out(repository: Path, commit: str, target: Path) -> None:
    git(target, "init", "--quiet", "--template=", "--initial-branch=main")
    with tempfile.TemporaryFile() as pack:
        _run(repository, ["pack-objects", "--revs", "--stdout", "-q"], given=f"{commit}\n".encode(), output=pack)
        pack.seek(0)
        _run(target, ["index-pack", "--stdin"], given=pack)
    cut_off = repository / git(repository, "rev-parse", "--git-path", "shallow").strip()
    if cut_off.is_file():
        shutil.copyfile(cut_off, target / ".git" / "shallow")
    git(target, "update-ref", "refs/heads/main", commit)
    git(target, "reset", "--quiet", "--hard")


def _run(
    directory: Path, command: list[str], *, given: bytes | IO[bytes] = b"", output: IO[bytes] | None = None
) -> bytes:
    """Run git with bytes or a file as its input; its output, unless a file gets it."""
    done = subprocess.run(
        ["git", *command],
        cwd=directory,
        env=git_environment(),
        input=given if isinstance(given, bytes) else None,
        stdin=None if isinstance(given, bytes) else given,
        stdout=output or subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise InfrastructureError(f"git {command[0]} failed in {directory} with code {done.returncode}: {said}")
    return done.stdout or b""
