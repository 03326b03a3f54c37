"""The host's own git in an empty repository, cut off from every configuration."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from swe_aem.core.scratch import scratch_directory
from swe_aem.errors import HostFailed, InfrastructureError, UserError

_TIMEOUT_S = 120.0
_LITTLE_SPACE_BYTES = 16 << 20
_EXHAUSTED = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN,
}  # fmt: skip
"""What a host lacks, whatever names and contents an agent chose for the files that git is given."""
_CONFIG = """[core]
\trepositoryformatversion = 0
\tbare = {bare}
\tprotectNTFS = false
\tprotectHFS = false
\tlooseCompression = 0
[gc]
\tauto = 0
"""


class HostGitTimeout(InfrastructureError):
    """Git took longer than it may."""


class HostGit:
    """An empty repository in a directory of its own. `work_tree` is None for a bare one."""

    def __init__(self, git_dir: Path, work_tree: Path | None) -> None:
        self.git_dir = git_dir
        self.work_tree = work_tree

    def __call__(self, *arguments: str, data: bytes = b"", accept: tuple[int, ...] = (0,)) -> bytes:
        """What git prints; raises `InfrastructureError` for an exit code that is not in `accept` and where the host
        cannot run it, `HostGitTimeout`, and `UserError` where there is no git."""
        place = [f"--git-dir={self.git_dir}"]
        if self.work_tree is not None:
            place.append(f"--work-tree={self.work_tree}")
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.git_dir),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_ATTR_NOSYSTEM": "1",
        }
        try:
            done = subprocess.run(
                ["git", *place, *arguments],
                input=data,
                capture_output=True,
                cwd=self.work_tree or self.git_dir,
                env=environment,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise HostGitTimeout(f"git {arguments[0]} took longer than {_TIMEOUT_S:.0f} s on the host") from None
        except OSError as error:
            if isinstance(error, FileNotFoundError) and error.filename == "git":  # else it is the directory
                raise UserError("git is not installed on this host; install it (apt-get install git)") from None
            raise _failure(f"git {arguments[0]} cannot run on the host", error) from error
        if done.returncode not in accept:
            said = done.stderr.decode("utf-8", "replace").strip()[-1000:]
            why = f"git {arguments[0]} failed on the host (exit code {done.returncode}): {said}"
            raise HostFailed(why) if self._lacks_space() else InfrastructureError(why)
        return done.stdout

    def _lacks_space(self) -> bool:
        """Has the disk so little space that git can have failed for it? Its words do not say: they quote names."""
        disk = os.statvfs(self.git_dir)
        no_inodes = disk.f_files > 0 and disk.f_favail == 0
        return no_inodes or disk.f_bavail * disk.f_frsize < _LITTLE_SPACE_BYTES


@contextmanager
def host_git(*, work_tree: bool = False) -> Iterator[HostGit]:
    """An empty repository for the length of a `with`: no hooks, no attributes, no configuration but ours.

    An `OSError` in that `with` is the host's: it becomes `InfrastructureError`.
    """
    try:
        with scratch_directory("git") as root:
            yield _empty_repository(root, work_tree=work_tree)
    except OSError as error:
        raise _failure("the host cannot keep files for git", error) from error


def _empty_repository(root: Path, *, work_tree: bool) -> HostGit:
    git_dir = root / "git"
    for name in ("objects", "refs", "info"):
        (git_dir / name).mkdir(parents=True)
    (git_dir / "HEAD").write_text("ref: refs/heads/none\n")
    (git_dir / "config").write_text(_CONFIG.format(bare="false" if work_tree else "true"))
    tree = root / "tree" if work_tree else None
    if tree is not None:
        tree.mkdir()
    return HostGit(git_dir, tree)


def _failure(what: str, error: OSError) -> InfrastructureError:
    kind = HostFailed if error.errno in _EXHAUSTED else InfrastructureError
    return kind(f"{what}: {error}")
