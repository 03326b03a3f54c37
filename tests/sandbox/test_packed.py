"""Bubblewrap on packed images: mounted once, shared, unmounted by whoever is last, copied within a limit."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import pytest
import pytest_asyncio

from swe_aem import grade_async, load_tasks
from swe_aem.core import FetchesImages, Limits, SandboxSpec, Verdict
from swe_aem.core.owner import start_ticks
from swe_aem.core.settings import check
from swe_aem.errors import TaskUnusable, UserError
from swe_aem.grading import StartLayers, layers
from swe_aem.rollout import RolloutConfig
from swe_aem.rollout.budget import sandbox_spec
from swe_aem.rollout.packed_starts import PackedStarts, pack_starts
from swe_aem.sandbox import host_system, roots
from swe_aem.sandbox.bubblewrap import BubblewrapBackend
from swe_aem.sandbox.images.engine import connect
from swe_aem.sandbox.images.ledger import Ledger
from swe_aem.sandbox.images.pack import writers
from swe_aem.sandbox.images.pack.packer import Packer
from swe_aem.sandbox.images.pack.registry import RegistryClient
from swe_aem.sandbox.images.unpack import unpack
from swe_aem.sandbox.packed import PACKED_DIR, PackedDir
from swe_aem.sandbox.packed_copies import COPY_LIMIT, PackedCopies
from swe_aem.sandbox.packed_mounts import PackedMounts
from tests.conftest import absent
from tests.task_rows import write_tasks
from tests.waiting import until

pytestmark = [pytest.mark.bubblewrap, pytest.mark.docker, pytest.mark.slow]

MICRO = "swe-aem/micro:1"
IMAGE = f"swe-aem/test-packed:{os.getpid()}"
BUILD = """
set -eu
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org
cd /testbed && git init -q -b main . && echo x > one && git add one && git commit -q -m base && git branch base
for n in 1 2 3; do echo $n > one && git commit -qam "later $n"; done
git branch future && git reset -q --hard base
rm -rf /usr/share /usr/lib/python3* /usr/lib/*/perl* /usr/lib/*/gconv /usr/lib/*/libicu* /usr/bin/perl* /var/lib/dpkg
"""
"""What no test needs is removed: packing it took most of their time."""
NO_LIMITS = Limits(memory_bytes=None, cpus=None, pids=None, disk_bytes=None)
SPEC = SandboxSpec(image=IMAGE, workdir="/root", limits=NO_LIMITS, ttl_s=900)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def packed(
    require_docker: None, require_bubblewrap: None, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[PackedDir]:
    """An image with a repository that has later commits, packed from the engine with quick compression."""
    if shutil.which("sqfstar") is None:
        absent("sqfstar is not installed: apt-get install squashfs-tools")
    directory = PackedDir(tmp_path_factory.mktemp("packed"))
    client = docker.from_env()
    await asyncio.to_thread(build, client)
    try:
        await pack(directory, IMAGE)
    finally:
        client.images.remove(IMAGE, force=True)
        client.close()
    yield directory


def build(client: docker.DockerClient) -> None:
    """Make the image on the engine."""
    container = client.containers.run(MICRO, ["sleep", "600"], detach=True, network_mode="none", init=True)
    try:
        code, output = container.exec_run(["bash", "-c", f"mkdir -p /testbed; {BUILD}"])
        assert code == 0, output
        container.commit(*IMAGE.split(":"))
    finally:
        container.remove(force=True)


async def pack(directory: PackedDir, image: str) -> None:
    """Pack an image of the engine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writers, "SQUASHFS_COMPRESSION", "lz4")
        async with connect() as engine, RegistryClient() as client:
            await Packer(directory, client, "squashfs").from_engine(engine, image)


@pytest.fixture(autouse=True)
def own_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: PackedDir) -> Iterator[None]:
    """A cache and mounts of this test only; the bundled tasks' image is not the host's own system."""
    monkeypatch.setenv("SWE_AEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(PACKED_DIR, str(packed.path))
    monkeypatch.setattr(host_system, "HOST_IMAGE", "no-image")
    state = tmp_path / "state"
    state.mkdir()
    monkeypatch.setattr("swe_aem.sandbox.packed_mounts.state_dir", lambda: state)
    yield
    for point in (state / "mounts" / "points").glob("*"):
        subprocess.run(["umount", point], check=False, capture_output=True)


def mounts(tmp_path: Path) -> list[str]:
    """What is mounted in this test's directory of mounts."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line.split()[2] for line in lines if str(tmp_path) in line]


def backing_files(tmp_path: Path) -> list[Path]:
    """The files that are mounted there."""
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    devices = [Path(line[0]).name for line in lines if str(tmp_path) in line[1]]
    return [Path((Path("/sys/block") / name / "loop" / "backing_file").read_text().strip()) for name in devices]


async def test_it_is_mounted_once_read_only_and_unmounted_with_its_last_user(packed: PackedDir, tmp_path: Path) -> None:
    (image,) = packed.images()
    first, second = BubblewrapBackend(), BubblewrapBackend()
    async with first:
        assert await first.image_digest(IMAGE) == image.image_id
        assert not mounts(tmp_path)
        async with second, first.open(SPEC) as one, second.open(SPEC) as two:
            assert mounts(tmp_path) == ["squashfs"]
            result = await one.run("stat -c %U:%a /usr/bin/passwd && touch /usr/mine && ls /usr/mine", timeout_s=60)
            assert (result.exit_code, "root:4755" in result.output) == (0, True), result.output
            assert (await two.run("ls /usr/mine", timeout_s=60)).exit_code != 0
            assert one.env["PATH"] == image.environment["PATH"]
            point = tmp_path / "state" / "mounts" / "points" / image.file_name
            with pytest.raises(OSError, match="Read-only"):
                (point / "x").touch()
        assert mounts(tmp_path) == ["squashfs"]  # the first may start more
    assert not mounts(tmp_path)


async def test_a_group_that_starts_at_once_waits_in_no_thread_and_leaves_no_mount(
    packed: PackedDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (image,) = packed.images()
    monkeypatch.setenv(COPY_LIMIT, "1TiB")
    monkeypatch.setattr("swe_aem.sandbox.images.ledger.LOCK_WAIT_S", 5.0)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    mine = PackedMounts()
    trees = await asyncio.gather(*(mine.mounted(packed.file(image)) for _ in range(8)))
    assert len({tree.path for tree in trees}) == 1
    assert (tmp_path / "cache" / "packed" / image.file_name) in backing_files(tmp_path)
    await mine.release()
    assert not mounts(tmp_path)


async def test_a_cancelled_start_leaves_no_program_that_mounts(
    packed: PackedDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (image,) = packed.images()
    programs, mark = tmp_path / "bin", tmp_path / "mark"
    programs.mkdir()
    (programs / "mount").write_text(f"#!/bin/sh\necho $$ > {mark}.draft && mv {mark}.draft {mark}\nexec sleep 600\n")
    (programs / "mount").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    starting = asyncio.create_task(PackedMounts().mounted(packed.file(image)))
    await until(mark.exists)
    starting.cancel()
    await asyncio.wait({starting})
    assert start_ticks(int(mark.read_text())) is None


async def test_a_killed_user_leaves_no_mount_once_somebody_looks(packed: PackedDir, tmp_path: Path) -> None:
    code = f"""
import asyncio
from pathlib import Path
from swe_aem.sandbox import packed_mounts
from swe_aem.sandbox.packed import PackedDir
packed_mounts.state_dir = lambda: Path({str(tmp_path / "state")!r})
directory = PackedDir(Path({str(packed.path)!r}))
(image,) = directory.images()
asyncio.run(packed_mounts.PackedMounts().mounted(directory.file(image)))
print("mounted", flush=True)
input()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == b"mounted\n"
        backend = BubblewrapBackend()
        assert await backend.prune() == []
        assert mounts(tmp_path) == ["squashfs"]
        process.send_signal(signal.SIGKILL)
    (image,) = packed.images()
    assert image.file_name in await backend.prune()
    assert not mounts(tmp_path)


async def test_sandboxes_outlive_the_mount(tmp_path: Path) -> None:
    async with BubblewrapBackend() as backend, backend.open(SPEC) as sandbox:
        await backend.__aexit__()
        assert not mounts(tmp_path)
        assert (await sandbox.run("git --version", timeout_s=60)).exit_code == 0


@pytest.mark.nightly
async def test_the_gold_patch_is_graded_as_on_an_unpacked_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    task = load_tasks("micro", limit=1)[0]
    own = PackedDir(tmp_path / "own")
    await pack(own, MICRO)
    monkeypatch.setenv(PACKED_DIR, str(own.path))
    on_packed = await grade_async(task, task.key.gold_patch)
    async with connect() as engine:
        await unpack(engine, Ledger.of_roots(), MICRO)
    monkeypatch.delenv(PACKED_DIR)
    on_unpacked = await grade_async(task, task.key.gold_patch)
    assert on_packed.resolved
    fields = {name for name in Verdict.model_fields if not name.endswith("_s")} - {"log_tail"}  # names made by chance
    assert on_packed.model_dump(include=fields) == on_unpacked.model_dump(include=fields)


async def test_a_layer_is_kept_on_a_packed_root(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"layer": "0" * 32})
    async with BubblewrapBackend() as backend:
        assert await backend.has_layer(spec) is False
        async with backend.make_layer(spec) as sandbox:
            await sandbox.run("echo prepared > /usr/prepared", timeout_s=60)
        assert await backend.has_layer(spec) is True
        async with backend.open(spec) as sandbox:
            assert (await sandbox.run("cat /usr/prepared", timeout_s=60)).output == "prepared\n"
            assert len(roots.live_layers()) >= 1


async def test_a_packed_start_is_made_once_and_has_no_later_history(
    packed: PackedDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "NOTICEABLE_S", 0.0)
    write_tasks(tmp_path / "tasks.jsonl", [IMAGE])
    config, tasks = check(RolloutConfig, {"tasks": "micro"}), load_tasks(tmp_path / "tasks.jsonl")
    record, own = tasks[0], PackedDir(tmp_path / "own")  # with starts of this test only
    shutil.copytree(packed.path, own.path)
    assert await pack_starts(config, tasks, own) == PackedStarts(packed=1, present=0, quick=0)
    assert await pack_starts(config, tasks, own) == PackedStarts(packed=0, present=1, quick=0)
    (file,) = (own.path / "starts").glob("*.squashfs")
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:200] + bytes(200) + whole[400:], b""):
        file.write_bytes(damaged)
        shutil.rmtree(tmp_path / "cache" / "layers", ignore_errors=True)
        assert await pack_starts(config, tasks, own) == PackedStarts(packed=1, present=0, quick=0)

    monkeypatch.setenv("SWE_AEM_CACHE", str(tmp_path / "another-host"))
    backend = BubblewrapBackend(packed=own)
    spec = sandbox_spec(config, record, 0, run="r", role="agent", workspace=None)
    async with backend, StartLayers(backend) as starts:
        chosen = await starts.choose(spec, record, "agent")
        assert chosen.layer is not None
        async with backend.open(chosen) as sandbox:
            said = await sandbox.run("git -C /testbed log --all --format=%s", timeout_s=60)
            assert said.output == "base\n"
            assert not list((tmp_path / "another-host" / "layers").glob("*/*"))
            assert mounts(tmp_path) == ["squashfs", "squashfs"]
    assert not mounts(tmp_path)


async def test_a_copy_on_the_own_disk_is_what_gets_mounted(
    packed: PackedDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (image,) = packed.images()
    monkeypatch.setenv(COPY_LIMIT, "1TiB")
    async with BubblewrapBackend() as backend, backend.open(SPEC):
        copy = tmp_path / "cache" / "packed" / image.file_name
        assert copy.stat().st_size == image.size_bytes
        assert backing_files(tmp_path) == [copy]
    copy.write_bytes(b"all that a power cut left")
    async with BubblewrapBackend() as backend, backend.open(SPEC):
        assert (backing_files(tmp_path), copy.stat().st_size) == ([copy], image.size_bytes)


async def test_an_image_can_be_fetched_before_a_sandbox_needs_it(
    packed: PackedDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (image,) = packed.images()
    monkeypatch.setenv(COPY_LIMIT, "1TiB")
    async with BubblewrapBackend() as backend:
        assert isinstance(backend, FetchesImages)
        await backend.fetch_image(IMAGE)
        assert backing_files(tmp_path) == [tmp_path / "cache" / "packed" / image.file_name]
        with pytest.raises(TaskUnusable, match="is not packed"):
            await backend.fetch_image("swe-aem/unknown:1")
    assert not mounts(tmp_path)


async def test_copies_go_least_recently_used_first_and_never_what_is_needed(tmp_path: Path) -> None:
    files = [tmp_path / "shared" / f"sha256-{number}.squashfs" for number in range(4)]
    files[0].parent.mkdir()
    for file in files:
        file.write_bytes(bytes(1000))
    first, second, third = (PackedCopies(2500) for _ in range(3))
    copies = [await first.local(file) for file in files[:2]]
    assert [copy.parent for copy in copies] == [tmp_path / "cache" / "packed"] * 2
    assert await second.local(files[2]) == files[2]  # no space: both are needed
    first.release()
    ledger = Ledger.of_copies()
    ledger.touch(files[0].name, at_s=2000.0)
    ledger.touch(files[1].name, at_s=1000.0)
    assert (await second.local(files[2])).parent == copies[0].parent
    assert (copies[0].exists(), copies[1].exists()) == (True, False)
    assert (await third.local(files[0])) == copies[0]


async def test_two_copies_at_once_keep_the_limit(tmp_path: Path) -> None:
    files = [tmp_path / "shared" / f"sha256-{number}.squashfs" for number in range(2)]
    files[0].parent.mkdir()
    for file in files:
        file.write_bytes(bytes(1000))
    copies = PackedCopies(1500)
    local = await asyncio.gather(*map(copies.local, files))
    assert sum(path not in files for path in local) == 1


async def test_what_is_missing_is_told(packed: PackedDir, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(TaskUnusable, match="images pack other/image:1"):
        async with BubblewrapBackend().open(SPEC.model_copy(update={"image": "other/image:1"})):
            pass
    monkeypatch.setenv(PACKED_DIR, str(tmp_path / "nowhere"))
    backend = BubblewrapBackend()
    with pytest.raises(UserError, match="no such directory"):
        await backend.image_digest(IMAGE)
    assert isinstance(await backend.prune(), list)  # what dead runs left goes all the same
    monkeypatch.setenv(PACKED_DIR, str(packed.path))
    monkeypatch.setenv(COPY_LIMIT, "much")
    with pytest.raises(UserError, match=COPY_LIMIT):
        async with BubblewrapBackend().open(SPEC):
            pass
