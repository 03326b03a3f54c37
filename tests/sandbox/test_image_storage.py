"""What a packed image lies on fails under a running sandbox: nothing that the sandbox answers counts from then on."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from swe_aem.core import Limits, SandboxSpec
from swe_aem.errors import HostFailed, ImageLost, StartError
from swe_aem.sandbox.bubblewrap import BubblewrapBackend
from swe_aem.sandbox.image_storage import DirectoryWatch, MountWatch, Watch, why_not_whole
from swe_aem.sandbox.kernel_log import KernelLog
from swe_aem.sandbox.packed import PackedDir, PackFormat
from tests.conftest import absent
from tests.sandbox.small_image import pack_small_image
from tests.waiting import until

pytestmark = [pytest.mark.bubblewrap, pytest.mark.usefixtures("require_bubblewrap", "own_host")]

IMAGE = "example/small:1"
NO_LIMITS = Limits(memory_bytes=None, cpus=None, pids=None, disk_bytes=None)
SPEC = SandboxSpec(image=IMAGE, workdir="/root", limits=NO_LIMITS, ttl_s=900)
WAYS = [("squashfs", "loop"), ("erofs", "loop"), ("squashfs", "fuse")]


@pytest.fixture
def own_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache and mounts of this test only."""
    for program in ("mksquashfs", "mkfs.erofs", "squashfuse", "fusermount3"):
        if shutil.which(program) is None:
            absent(f"{program} is not installed: apt-get install squashfs-tools erofs-utils squashfuse fuse3")
    monkeypatch.setenv("SWE_AEM_CACHE", str(tmp_path / "cache"))
    state = tmp_path / "state"
    state.mkdir()
    monkeypatch.setattr("swe_aem.sandbox.packed_mounts.state_dir", lambda: state)
    yield
    for point in (state / "mounts" / "points").glob("*"):
        subprocess.run(["umount", point], check=False, capture_output=True)


@pytest.fixture(params=WAYS, ids="-".join)
def file(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A packed image in each format, mounted in each way."""
    format, way = request.param
    return small_image(tmp_path, monkeypatch, format, way)


def small_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: PackFormat, way: str) -> Path:
    """The file of a small packed image, which `SWE_AEM_IMAGES` names from now on."""
    directory = PackedDir(tmp_path / "packed")
    directory.path.mkdir()
    monkeypatch.setenv("SWE_AEM_IMAGES", str(directory.path))
    if way == "fuse":
        monkeypatch.setattr("swe_aem.sandbox.packed_mounts.loop_devices_can_be_used", lambda: False)
    return directory.file(pack_small_image(directory, IMAGE, format, tmp_path))


def truncated(file: Path) -> None:
    """As a quota or an interrupted copy does it."""
    os.truncate(file, file.stat().st_size // 4)


def written_again(file: Path) -> None:
    """In place, with the same size."""
    before = file.stat()
    with file.open("r+b") as opened:
        opened.seek(before.st_size // 2)
        opened.write(bytes(65536))
    assert file.stat().st_mtime_ns != before.st_mtime_ns


async def test_a_truncated_file_is_no_result_of_any_command(file: Path) -> None:
    whole = file.read_bytes()
    async with BubblewrapBackend() as backend:
        async with backend.open(SPEC) as sandbox, backend.open(SPEC) as beside:
            assert (await sandbox.run("echo works", timeout_s=60)).output == "works\n"
            truncated(file)
            with pytest.raises(ImageLost, match=r"it had [\d,]+ bytes and has [\d,]+") as lost:
                await sandbox.run("cat /data > /dev/null || true", timeout_s=60)
            assert isinstance(lost.value, HostFailed)
            assert not await sandbox.alive()
            for call in (sandbox.settle(), sandbox.list_tree("/root"), sandbox.read_output()):
                with pytest.raises(ImageLost):
                    await call
            with pytest.raises(ImageLost):  # a patch that is captured after that counts for nothing
                await beside.settle()
        with pytest.raises(StartError, match=f"{file.name} is damaged: it has .* bytes; delete it and pack it again"):
            async with backend.open(SPEC):
                pass
        file.write_bytes(whole)
        async with backend.open(SPEC) as again:
            assert (await again.run("cat /data > /dev/null", timeout_s=60)).exit_code == 0


async def test_a_file_that_is_written_to_is_noticed(file: Path) -> None:
    async with BubblewrapBackend() as backend, backend.open(SPEC) as sandbox:
        written_again(file)
        with pytest.raises(ImageLost, match="written at another time"):
            await sandbox.run("true", timeout_s=60)


async def test_a_file_that_only_lost_its_name_is_still_there(file: Path) -> None:
    copy = file.with_suffix(".copy")
    shutil.copy(file, copy)
    async with BubblewrapBackend() as backend:
        async with backend.open(SPEC) as sandbox:
            copy.rename(file)  # packed again
            assert (await sandbox.run("cat /data > /dev/null", timeout_s=60)).exit_code == 0
        async with BubblewrapBackend() as other, other.open(SPEC) as fresh:
            assert (await fresh.run("true", timeout_s=60)).exit_code == 0


async def test_a_killed_process_of_fuse_is_noticed_and_mounted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = small_image(tmp_path, monkeypatch, "squashfs", "fuse")
    async with BubblewrapBackend() as backend:
        async with backend.open(SPEC) as sandbox:
            await sandbox.run("true", timeout_s=60)
            (pid,) = pids_of(file)
            os.kill(pid, signal.SIGKILL)
            await until(lambda: not pids_of(file))
            with pytest.raises(ImageLost, match="does not answer"):
                await sandbox.run("true", timeout_s=60)
        async with backend.open(SPEC) as again:
            assert (await again.run("cat /data > /dev/null", timeout_s=60)).exit_code == 0


def call(program: str, *arguments: Path | str) -> None:
    """Run a program, which has to work."""
    subprocess.run([program, *arguments], check=True, capture_output=True)


def pids_of(file: Path) -> list[int]:
    """Live processes with the file on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(file).encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


async def test_what_the_kernel_logs_of_the_loop_device_is_noticed(tmp_path: Path) -> None:
    root, log = tmp_path / "root", tmp_path / "kmsg"
    root.mkdir()
    (root / "one").write_bytes(os.urandom(65536))
    image, point = tmp_path / "image.squashfs", tmp_path / "point"
    call("mksquashfs", root, image, "-quiet", "-no-progress")
    point.mkdir()
    log.touch()
    watch = MountWatch(image, point, kernel_log=KernelLog(log))
    call("mount", "-o", "ro,loop", image, point)
    try:
        device = f"loop{os.minor(point.stat().st_dev)}"
        log.write_text("3,1,1,-;I/O error, dev loop99999, sector 8 op 0x0:(READ)\n")
        assert await watch.trouble() is None
        with log.open("a") as opened:
            opened.write(f"3,2,2,-;I/O error, dev {device}, sector 16 op 0x0:(READ) flags 0x0\n")
        assert f"I/O error, dev {device}, sector 16" in str(await watch.trouble())
        assert watch.failed
    finally:
        call("umount", point)


async def test_a_directory_that_is_removed_or_replaced_is_noticed(tmp_path: Path) -> None:
    directory = tmp_path / "upper"
    directory.mkdir()
    first, second = DirectoryWatch(directory), DirectoryWatch(directory)
    assert await first.trouble() is None
    directory.rename(tmp_path / "elsewhere")
    assert "No such file" in str(await first.trouble())
    directory.mkdir()
    assert "was replaced" in str(await second.trouble())
    assert "No such file" in str(await first.trouble())  # for good


async def test_one_look_answers_all_who_asked_before_it_and_none_who_ask_later() -> None:
    class Counting(Watch):
        looks = 0

        def _what(self) -> str:
            return "it"

        def _look(self) -> str | None:
            self.looks += 1
            return None

    watch = Counting()
    await asyncio.gather(*(watch.trouble() for _ in range(50)))
    assert watch.looks <= 2
    looks = watch.looks
    await watch.trouble()
    assert watch.looks == looks + 1


async def test_storage_that_does_not_answer_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swe_aem.sandbox.image_storage.LOOK_LIMIT_S", 0.0)

    class Silent(Watch):
        def _what(self) -> str:
            return "/shared/image.squashfs"

        def _look(self) -> str | None:
            return None

    assert await Silent().trouble() == "/shared/image.squashfs did not answer within 0 s"


def test_a_head_says_how_much_there_has_to_be(file: Path) -> None:
    assert why_not_whole(file) is None
    truncated(file)
    assert "bytes" in str(why_not_whole(file))
    file.write_bytes(b"all that a power cut left")
    assert "begins like no squashfs" in str(why_not_whole(file))
