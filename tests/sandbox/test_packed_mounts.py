"""Packed images where loop devices are refused: the root of a user namespace, who may mount FUSE only."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from swe_aem.errors import StartError
from swe_aem.sandbox.packed import PackedDir, PackFormat
from swe_aem.sandbox.packed_mounts import PackedMounts
from tests.conftest import absent
from tests.sandbox.small_image import DATA_BYTES, pack_small_image

IMAGE = "example/small:1"
INSIDE = f"""
import asyncio, os, signal
from pathlib import Path
from swe_aem.sandbox import packed_mounts
from tests.sandbox.test_image_storage import pids_of
from tests.waiting import until

STATE = Path(os.environ["STATE"])
packed_mounts.state_dir = lambda: STATE

def kinds():
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [line[2] for line in lines if line[1].startswith(str(STATE))]

async def main():
    file, mounts = Path(os.environ["FILE"]), packed_mounts.PackedMounts()
    tree = await mounts.mounted(file)
    assert (tree.path / "data").stat().st_size == {DATA_BYTES} and (tree.path / "data").owner() == "root"
    assert kinds() == ["fuse.squashfuse"], kinds()
    (helper,) = pids_of(file)
    os.kill(helper, signal.SIGKILL)
    await until(lambda: not pids_of(file))
    assert "does not answer" in str(await tree.watch.trouble())
    again = await mounts.mounted(file)
    assert (again.path / "data").read_bytes()[:256] == bytes(range(256)) and await again.watch.trouble() is None
    await mounts.release()
    assert kinds() == [] and not list(STATE.glob("mounts/points/*"))
    await until(lambda: not pids_of(file))

asyncio.run(main())
"""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where mounts of this test are."""
    for program in ("mksquashfs", "mkfs.erofs", "squashfuse", "fusermount3", "unshare"):
        if shutil.which(program) is None:
            absent(
                f"{program} is not installed: apt-get install squashfs-tools erofs-utils squashfuse fuse3 util-linux"
            )
    directory = tmp_path / "state"
    directory.mkdir()
    monkeypatch.setenv("SWE_AEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("swe_aem.sandbox.packed_mounts.state_dir", lambda: directory)
    return directory


def packed(tmp_path: Path, format: PackFormat) -> Path:
    """The file of a small image."""
    directory = PackedDir(tmp_path / "packed")
    directory.path.mkdir()
    return directory.file(pack_small_image(directory, IMAGE, format, tmp_path))


def test_fuse_takes_the_place_of_loop_devices_and_of_its_own_dead_process(tmp_path: Path, state: Path) -> None:
    file = packed(tmp_path, "squashfs")
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", INSIDE]
    environment = {**os.environ, "FILE": str(file), "STATE": str(state)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


async def test_helpers_that_die_are_named_with_what_they_said(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, programs = packed(tmp_path, "squashfs"), tmp_path / "programs"
    programs.mkdir()
    for name, script in (("mount", "echo no loop device; exit 32"), ("squashfuse", "kill -9 $$")):
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    path = os.environ["PATH"]
    monkeypatch.setenv("PATH", f"{programs}:{path}")
    mounts = PackedMounts()
    with pytest.raises(
        StartError, match="mount ended with 32: no loop device; squashfuse ended with -9: it said nothing"
    ):
        await mounts.mounted(file)
    monkeypatch.setenv("PATH", path)
    tree = await mounts.mounted(file)
    assert os.path.ismount(tree.path)
    await mounts.release()
    assert not tree.path.exists()


async def test_erofs_without_loop_devices_is_one_line(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, programs = packed(tmp_path, "erofs"), tmp_path / "programs"
    programs.mkdir()
    (programs / "mount").write_text("#!/bin/sh\necho no loop device; exit 32\n")
    (programs / "mount").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    with pytest.raises(StartError, match="no loop device; FUSE mounts squashfs only"):
        await PackedMounts().mounted(file)
