"""The host's git: what the host itself lacks is an infrastructure failure, and never says anything about a patch."""

import errno
import os
import shutil
import subprocess
import tempfile

import pytest

from swe_aem.errors import HostFailed, InfrastructureError, UserError
from swe_aem.grading.delta import FILE, Blob, Change
from swe_aem.grading.diff_text import render_delta
from swe_aem.grading.host_git import host_git
from swe_aem.grading.ignore_rules import ignored_names

USES = {
    "the rules": lambda: ignored_names({".gitignore": b"x\n"}, ["x"]),
    "a diff": lambda: render_delta([Change("a", None, Blob(FILE, b"x\n"))]),
}


@pytest.fixture(params=USES)
def use(request):
    return USES[request.param]


def test_a_host_without_room_for_gits_files_is_an_infrastructure_failure(use, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(InfrastructureError, match="scratch directory"):
        use()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.EACCES])
def test_a_host_that_cannot_run_git_is_an_infrastructure_failure(use, number, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(subprocess, "run", refuse)
    with pytest.raises(InfrastructureError, match=os.strerror(number)):
        use()


def test_only_a_git_that_is_not_there_is_not_installed(use, tmp_path, monkeypatch):
    with host_git() as git:
        shutil.rmtree(git.git_dir)
        with pytest.raises(InfrastructureError, match="cannot run"):
            git("version")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="not installed"):
        use()


def test_files_that_cannot_be_written_are_an_infrastructure_failure():
    with pytest.raises(InfrastructureError, match="No space left"), host_git():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(("room_bytes", "kind"), [(1 << 20, HostFailed), (1 << 30, InfrastructureError)])
def test_git_that_fails_on_a_full_disk_failed_for_it(room_bytes, kind, monkeypatch):
    disk = os.statvfs("/")
    changed = [*disk]
    changed[0], changed[1], changed[4] = 4096, 4096, room_bytes // 4096
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(changed))
    with pytest.raises(InfrastructureError, match="exit code") as failed, host_git() as git:
        git("rev-parse", "--verify", "nothing")
    assert type(failed.value) is kind


@pytest.mark.parametrize(("number", "kind"), [(errno.EMFILE, HostFailed), (errno.ENAMETOOLONG, InfrastructureError)])
def test_what_a_host_lacks_is_told_from_what_an_agent_chose(number, kind):
    with pytest.raises(InfrastructureError) as failed, host_git():
        raise OSError(number, os.strerror(number))
    assert type(failed.value) is kind
