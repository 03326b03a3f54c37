"""Which names git ignores by given rules, as the host's `git check-ignore` says it: nothing of a sandbox is asked."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from swe_aem.grading.host_git import HostGit, host_git

EXCLUDE = ".git/info/exclude"
"""Where a repository keeps rules that are not part of its tree."""


def is_ignore_file(path: str) -> bool:
    """Does git read rules from this path of a work tree?"""
    return path == EXCLUDE or path.rsplit("/", 1)[-1] == ".gitignore"


def ignored_names(rules: Mapping[str, bytes], names: Iterable[str]) -> frozenset[str]:
    """Those of `names` that `rules` ignore: the content of each `.gitignore` and of `.git/info/exclude`, by path.

    Paths are relative to the top of the repository, without `.` and `..`. Names need not exist, are taken for files,
    and may hold any byte but NUL. Raises `UserError` where the host has no git.
    """
    asked = [b"./" + name.encode("utf-8", "surrogateescape") for name in names]  # so that no name begins with a colon
    if not asked or not rules:
        return frozenset()
    with host_git(work_tree=True) as git:
        for path, content in rules.items():
            target = _place(git, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        # Exit code 1: none is ignored.
        said = git("check-ignore", "--no-index", "--stdin", "-z", data=b"\0".join(asked) + b"\0", accept=(0, 1))
    return frozenset(name[2:].decode("utf-8", "surrogateescape") for name in said.split(b"\0") if name)


def _place(git: HostGit, path: str) -> Path:
    assert git.work_tree is not None
    if path == EXCLUDE:
        return git.git_dir / "info" / "exclude"
    return git.work_tree / path
