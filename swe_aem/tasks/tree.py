"""A task's working tree: a small git repository with one commit, the same bytes on every machine.

The commit's id is the row's `base_commit`. It is fixed by the content of the files alone: author, dates and message are
constants, and no configuration of the user's reaches git.
"""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from swe_aem.errors import InfrastructureError, UserError

GITIGNORE = "__pycache__/\n.pytest_cache/\n"
"""Part of every tree: keeps the files that a test run leaves behind out of patches."""
_IDENTITY = {"NAME": "micro", "EMAIL": "micro@example.invalid", "DATE": "2025-01-01T00:00:00+0000"}
_CONFIG = (
    "core.autocrlf=false",
    "core.fileMode=true",
    "core.logAllRefUpdates=false",
    "commit.gpgSign=false",
    "gc.auto=0",
    "maintenance.auto=false",
)


def git_environment() -> dict[str, str]:
    """Environment for git: none of the caller's GIT_* variables, no configuration file, no locale."""
    env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "HOME": os.devnull, "TZ": "UTC"}
    env |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for role in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{role}_{key}": value for key, value in _IDENTITY.items()}
    return env


def git(directory: Path, *arguments: str, stdin: str | None = None) -> str:
    """Run git in `directory`, isolated from the user's configuration; returns its output.

    Raises `UserError` if git is not installed and `InfrastructureError` if the command fails.
    """
    config = [word for setting in _CONFIG for word in ("-c", setting)]
    try:
        done = subprocess.run(
            ["git", *config, *arguments],
            cwd=directory,
            env=git_environment(),
            input=stdin.encode() if stdin is not None else b"",
            capture_output=True,
            check=False,
        )
    except FileNotFoundError as error:
        if not directory.is_dir():
            raise
        raise UserError("git is not installed; install it (Debian: apt-get install git)") from error
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise InfrastructureError(f"git {arguments[0]} failed in {directory} with code {done.returncode}: {said}")
    return done.stdout.decode("utf-8", "replace")


def write_files(directory: Path, files: Mapping[str, str]) -> None:
    """Write text files (relative path to content) with mode 644, whatever the umask."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        path.chmod(0o644)


def build_tree(directory: Path, clean: Mapping[str, str], gold_patch: str, test_patch: str) -> str:
    """Make the tree that an agent starts from in the empty `directory`; returns the id of its only commit.

    `clean` are the files of the clean package. Both patches lead from the agent's tree to the clean one, so they are
    applied in reverse. That happens before anything is added: no object of the clean code ever enters `.git`.
    """
    write_files(directory, {".gitignore": GITIGNORE, **clean})
    git(directory, "init", "--quiet", "--template=", "--initial-branch=main", "--object-format=sha1")
    git(directory, "apply", "--reverse", "--whitespace=nowarn", stdin=gold_patch + test_patch)
    git(directory, "add", "--all")
    git(directory, "commit", "--quiet", "--no-verify", "--message=Initial commit")
    return git(directory, "rev-parse", "HEAD").strip()
