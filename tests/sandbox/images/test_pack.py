"""Images packed from a real registry without an engine, with faults in between, and from an engine."""

import asyncio
import base64
import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import pytest
from typer.testing import CliRunner

from swe_aem.cli import app
from swe_aem.errors import UserError
from swe_aem.sandbox.images.engine import connect
from swe_aem.sandbox.images.failures import PullFailure
from swe_aem.sandbox.images.ledger import Ledger
from swe_aem.sandbox.images.pack.packer import Packer
from swe_aem.sandbox.images.pack.registry import RegistryClient
from swe_aem.sandbox.images.pack.writers import open_draft
from swe_aem.sandbox.images.pull import PullConfig, Puller, Want
from swe_aem.sandbox.images.reference import Reference
from swe_aem.sandbox.images.registries import Registries, load_credentials
from swe_aem.sandbox.packed import PackedDir
from swe_aem.sandbox.roots import ROOTFS_DIGEST, ROOTFS_ENV
from tests.conftest import absent
from tests.sandbox.images.pushed import Pushed, archive, file, folder, hard_link, link, made, push
from tests.waiting import until

BLOB, MANIFEST = "/blobs/", "/manifests/"
CAPABILITY = b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
LAYERS = (
    [folder("bin"), file("bin/sh", b"#!", mode=0o4755), folder("etc", mode=0o750), file("etc/a", b"1"), file("etc/b")],
    [file("bin/sh", b"#!!", mode=0o4755), hard_link("bin/dash", "bin/sh", 0o4755)],
    [folder("srv"), file("srv/old"), folder("srv/sub"), file("srv/sub/old"), link("lib", "usr/lib"), file("gone")],
    [
        folder("srv"),
        file("srv/.wh..wh..opq"),
        file("srv/new", os.urandom(5000), uid=1234, gid=77, mtime=1_500_000_000),
        file(".wh.gone"),
        folder("etc", mode=0o755),
        file("etc/.wh.b"),
        made("etc/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        file(
            "bin/ping",
            b"x",
            pax_headers={"SCHILY.xattr.security.capability": CAPABILITY.decode("utf-8", "surrogateescape")},
        ),
    ],
)
"""Layers that share, replace and remove things, as images do."""


@pytest.fixture(scope="session", autouse=True)
def require_tools() -> None:
    """The programs that write and read squashfs are installed."""
    for program in ("sqfstar", "unsquashfs"):
        if not any(os.access(Path(folder) / program, os.X_OK) for folder in os.environ["PATH"].split(":")):
            absent(f"{program} is not installed: apt-get install squashfs-tools")


@pytest.fixture
def image(registry: str) -> Callable[..., Pushed]:
    """Pushes an image under a name of its own."""

    def make(layers: Any = LAYERS, **how: Any) -> Pushed:
        repository = f"swe-aem-test/{uuid.uuid4().hex[:12]}"
        return push(registry, repository, [archive(members) for members in layers], **how)

    return make


@pytest.fixture
async def packer(tmp_path: Path) -> AsyncIterator[Packer]:
    """Packs into a directory of this test."""
    async with RegistryClient() as client:
        yield Packer(PackedDir(tmp_path / "packed"), client, "squashfs")


async def pack(packer: Packer, config: PullConfig, *wants: Want | str, mirrors: dict[str, Any] | None = None) -> Any:
    """Pack as the command does; the results."""
    every = [Want(reference=Reference.parse(want)) if isinstance(want, str) else want for want in wants]
    puller = Puller(
        packer,
        Ledger.of_packed(packer.packed.path),
        config=config,
        registries=Registries(mirrors=mirrors or {}),
        credentials=load_credentials(),
    )
    return await puller.pull_all(every)


def tree(packed: PackedDir, name: str, into: Path) -> Path:
    """Unpack an image's file."""
    found = packed.find(name)
    assert found is not None
    subprocess.run(["unsquashfs", "-quiet", "-no-progress", "-d", into, packed.file(found)], check=True)
    return into


def listing(root: Path) -> dict[str, tuple[Any, ...]]:
    """Path to everything that a file system says about it."""
    found = {}
    for path in root.rglob("*"):
        one = path.lstat()
        content: Any = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else one.st_rdev
        names = one.st_nlink if stat.S_ISREG(one.st_mode) else 1
        attributes = {name: os.getxattr(path, name, follow_symlinks=False) for name in _attributes(path)}
        found[str(path.relative_to(root))] = (one.st_mode, one.st_uid, one.st_gid, names, content, attributes)
    return found


def _attributes(path: Path) -> list[str]:
    return os.listxattr(path, follow_symlinks=False)


@pytest.mark.parametrize("how", [{}, {"how": "zstd"}, {"how": "none"}, {"index": True}])
async def test_an_image_becomes_one_file_with_its_environment(
    packer: Packer, image: Callable[..., Pushed], hasty: PullConfig, tmp_path: Path, how: Any
) -> None:
    made_image = image(env=("PATH=/bin", "FOO=two words"), **how)
    (result,) = await pack(packer, hasty, made_image.name)
    assert (result.status, result.image_id, result.digest) == ("pulled", made_image.id, made_image.digest), result.why
    root = tree(packer.packed, made_image.name, tmp_path / "tree")
    found = {str(path.relative_to(root)) for path in root.rglob("*")}
    assert {"bin/dash", "srv/new", "etc/a", ROOTFS_DIGEST, ROOTFS_ENV} <= found
    assert not found & {"srv/old", "srv/sub", "gone", "etc/b"}
    assert (root / ROOTFS_DIGEST).read_text().strip() == made_image.id
    assert json.loads((root / ROOTFS_ENV).read_text()) == ["PATH=/bin", "FOO=two words"]
    packed = packer.packed.find(made_image.name)
    assert packed is not None
    assert packed.environment == {"PATH": "/bin", "FOO": "two words"}
    (again,) = await pack(packer, hasty, made_image.name)
    assert (again.status, again.downloaded_bytes) == ("present", 0)
    packer.close(finished=True)
    left = {path.name for path in packer.packed.path.iterdir()}
    assert left == {packed.file_name, "names", ".drafts"}
    assert not list((packer.packed.path / ".drafts").iterdir())


@pytest.mark.docker
@pytest.mark.slow
async def test_the_tree_is_the_one_that_an_engine_makes(
    packer: Packer, image: Callable[..., Pushed], hasty: PullConfig, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        absent("owners and devices can be compared only as root")
    made_image = image()
    await pack(packer, hasty, made_image.name)
    client = docker.from_env()
    said = list(client.api.pull(*made_image.name.rsplit(":", 1), stream=True, decode=True))
    assert "error" not in said[-1], said
    try:
        async with connect() as engine, RegistryClient() as http:
            other = Packer(PackedDir(tmp_path / "other"), http, "squashfs")
            exported, fresh = await other.from_engine(engine, made_image.name)
            assert (exported.image_id, fresh) == (made_image.id, True)
            assert (await other.from_engine(engine, made_image.name))[1] is False
    finally:
        client.images.remove(made_image.name)
        client.close()
    ours, engines = (
        listing(tree(packed, made_image.name, tmp_path / name))
        for name, packed in (("ours", packer.packed), ("engines", other.packed))
    )
    mounted = {"dev", "proc", "sys", ".dockerenv", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab"}
    added = {name for name in engines.keys() - ours.keys() if name in mounted or name.startswith("dev/")}
    assert {name: facts for name, facts in engines.items() if name not in added} == ours


async def test_erofs_holds_the_same_tree(
    packer: Packer, image: Callable[..., Pushed], hasty: PullConfig, tmp_path: Path
) -> None:
    if os.geteuid() != 0 or shutil.which("mkfs.erofs") is None:
        absent("packing as erofs needs root and mkfs.erofs: apt-get install erofs-utils")
    made_image = image()
    await pack(packer, hasty, made_image.name)
    async with RegistryClient() as client:
        other = Packer(PackedDir(tmp_path / "erofs"), client, "erofs")
        (result,) = await pack(other, hasty, made_image.name)
    assert (result.status, result.image_id) == ("pulled", made_image.id), result.why
    found = other.packed.find(made_image.name)
    assert found is not None
    with mounted(other.packed.file(found), tmp_path / "point", "ro,loop", "erofs") as root:
        assert listing(root) == listing(tree(packer.packed, made_image.name, tmp_path / "squashfs"))


@contextmanager
def mounted(what: Path | str, point: Path, options: str, kind: str = "tmpfs") -> Iterator[Path]:
    """A file system as a directory."""
    point.mkdir()
    subprocess.run(["mount", "-t", kind, "-o", options, what, point], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", point], check=True)


async def test_a_corrupt_layer_is_had_again_and_one_that_stays_corrupt_leaves_nothing(
    packer: Packer, proxy: Any, image: Callable[..., Pushed], hasty: PullConfig
) -> None:
    first, second = image(), image([[file("bin/x", b"y" * 5000)]])
    at_proxy = [one.name.replace(proxy.upstream, proxy.address) for one in (first, second)]
    proxy.add("corrupt", first.layers[0], times=1)
    proxy.add("corrupt", second.layers[0])
    good, bad = await pack(packer, hasty, *at_proxy)
    assert (good.status, good.attempts) == ("pulled", 2)
    assert (bad.status, bad.failure) == ("failed", PullFailure.CORRUPT)
    assert packer.packed.find(at_proxy[1]) is None
    assert not (packer.packed.path / ".layers" / second.layers[0].removeprefix("sha256:")).exists()


async def test_a_rate_limit_pauses_and_costs_no_attempt(
    packer: Packer, proxy: Any, image: Callable[..., Pushed], hasty: PullConfig
) -> None:
    name = image().name.replace(proxy.upstream, proxy.address)
    proxy.add("limit", MANIFEST, times=hasty.attempts + 1, Retry_After="0")
    (result,) = await pack(packer, hasty, name)
    assert (result.status, result.attempts) == ("pulled", hasty.attempts + 2)
    proxy.add("limit", MANIFEST, Retry_After="7200")
    (result,) = await pack(packer, hasty, image().name.replace(proxy.upstream, proxy.address))
    assert (result.failure, "7200" in result.why) == (PullFailure.RATE_LIMITED, True)


async def test_mirrors_are_asked_first_and_the_image_gets_its_own_name(
    packer: Packer, open_proxy: Callable[[], Any], image: Callable[..., Pushed], hasty: PullConfig
) -> None:
    empty, full = open_proxy(), open_proxy()
    made_image = image()
    name = made_image.name.replace(full.upstream, "registry.invalid")
    empty.faults.clear()
    mirrors = {"registry.invalid": (f"{empty.address}/nothing-here", full.address)}
    (result,) = await pack(packer, hasty, name, mirrors=mirrors)
    assert (result.status, result.source) == ("pulled", full.address), result.why
    assert any("nothing-here" in seen for seen in empty.seen)
    assert [found.reference for found in packer.packed.images()] == [name]


async def test_credentials_are_dockers_own(
    packer: Packer, proxy: Any, image: Callable[..., Pushed], hasty: PullConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.password = "secret"
    name = image().name.replace(proxy.upstream, proxy.address)
    (result,) = await pack(packer, hasty, name)
    assert result.failure is PullFailure.DENIED
    auth = base64.b64encode(b"reader:secret").decode()
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", json.dumps({"auths": {proxy.address: {"auth": auth}}}))
    (result,) = await pack(packer, hasty, name)
    assert result.status == "pulled", result.why


async def test_a_pinned_digest_is_what_comes_even_if_the_tag_has_moved(
    packer: Packer, registry: str, hasty: PullConfig
) -> None:
    repository = f"swe-aem-test/{uuid.uuid4().hex[:12]}"
    old = push(registry, repository, [archive([file("bin/old")])])
    push(registry, repository, [archive([file("bin/new")])])
    pinned = Want(reference=Reference.parse(old.name), digest=old.digest)
    (result,) = await pack(packer, hasty, pinned)
    assert (result.image_id, result.digest) == (old.id, old.digest), result.why
    wrong = Want(reference=Reference.parse(old.name), digest=f"sha256:{'0' * 64}")
    (result,) = await pack(packer, hasty, wrong)
    assert result.failure is PullFailure.MOVED


async def test_what_cannot_be_packed_is_told_and_not_tried_again(
    packer: Packer, registry: str, image: Callable[..., Pushed], hasty: PullConfig
) -> None:
    hostile = image([[file("bin/sh"), file("../../outside", b"x")]])
    empty = image([[file("payload")]])
    escaped, no_bin, missing = await pack(packer, hasty, hostile.name, empty.name, f"{registry}/swe-aem-test/none:1")
    assert (escaped.failure, escaped.attempts) == (PullFailure.MALFORMED, 1)
    assert "leads out of the image" in escaped.why
    assert (no_bin.failure, "/bin" in no_bin.why) == (PullFailure.MALFORMED, True)
    assert missing.failure is PullFailure.MISSING
    assert not list(packer.packed.path.parent.rglob("outside"))
    assert not list((packer.packed.path / ".drafts").iterdir())


async def test_what_a_disk_has_damaged_is_packed_again(
    packer: Packer, image: Callable[..., Pushed], hasty: PullConfig, tmp_path: Path
) -> None:
    made_image = image()
    await pack(packer, hasty, made_image.name)
    found = packer.packed.find(made_image.name)
    assert found is not None
    file_of_image, (record,) = packer.packed.file(found), (packer.packed.path / "names").iterdir()
    os.truncate(file_of_image, 100)
    (result,) = await pack(packer, hasty, made_image.name)
    assert (result.status, file_of_image.stat().st_size) == ("pulled", found.size_bytes)
    record.write_text("")
    assert packer.packed.images() == []
    (result,) = await pack(packer, hasty, made_image.name)
    assert (result.status, packer.packed.find(made_image.name)) == ("pulled", found)

    file_of_image.unlink()
    layer = packer.packed.path / ".layers" / made_image.layers[0].removeprefix("sha256:")
    layer.write_bytes(b"not what it was")
    (result,) = await pack(packer, hasty, made_image.name)
    assert result.failure is PullFailure.MALFORMED
    (result,) = await pack(packer, hasty, made_image.name)
    assert result.status == "pulled", result.why


async def test_writing_the_file_is_progress(
    packer: Packer, image: Callable[..., Pushed], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a program that works for longer than `--stall` after it has read everything would be stopped."""
    read, seen = asyncio.Event(), asyncio.Event()

    async def write(stream: AsyncIterator[bytes], format: str, path: Path, draft: Path) -> None:
        async for _ in stream:
            pass
        read.set()
        while not seen.is_set():
            with path.open("ab") as growing:
                growing.write(b"more")
            await asyncio.sleep(0.001)

    monkeypatch.setattr("swe_aem.sandbox.images.pack.packer.write_image", write)
    monkeypatch.setattr("swe_aem.sandbox.images.pack.packer._TELL_S", 0.001)
    counts = set()
    async with asyncio.timeout(60):
        async for message in packer.pull(Reference.parse(image().name), None):
            if read.is_set() and message["status"] == "Extracting":
                counts.add(message["progressDetail"]["current"])
            if len(counts) > 2:
                seen.set()


async def test_layers_stay_while_another_process_works_there(
    packer: Packer, image: Callable[..., Pushed], hasty: PullConfig
) -> None:
    await pack(packer, hasty, image().name)
    layers = packer.packed.path / ".layers"
    before = set(layers.iterdir())
    async with open_draft(packer.packed.path / ".drafts"):
        packer.close(finished=True)
    assert set(layers.iterdir()) == before
    part = layers / "another.part"
    with part.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        packer.close(finished=True)
        assert set(layers.iterdir()) == {*before, part}
    packer.close(finished=True)
    assert not layers.exists()


async def test_a_disk_that_is_full_is_called_so(
    image: Callable[..., Pushed], hasty: PullConfig, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        absent("a small disk can be mounted only as root")
    with mounted("tmpfs", tmp_path / "small", "size=3m") as small:
        async with RegistryClient() as client:
            packer = Packer(PackedDir(small), client, "squashfs")
            name = image([[file("bin/large", os.urandom(2 << 20))]]).name
            (result,) = await pack(packer, hasty, name)
        assert (result.failure, result.attempts) == (PullFailure.NO_SPACE, 1), result.why
        assert packer.packed.find(name) is None
        assert not list((small / ".drafts").iterdir())


@pytest.mark.docker
def test_an_image_that_an_engine_lacks_does_not_keep_others_from_being_packed(tmp_path: Path) -> None:
    client = docker.from_env()
    tag = uuid.uuid4().hex[:12]
    client.api.import_image_from_data(archive([file("bin/sh", b"#!")]), "swe-aem/test-small", tag)
    name, lacking = f"swe-aem/test-small:{tag}", f"swe-aem/test-none:{tag}"
    arguments = [lacking, name, "--from", "docker", "--json", "--to", str(tmp_path / "packed")]
    try:
        result = CliRunner().invoke(app, ["images", "pack", *arguments])
    finally:
        client.images.remove(name)
        client.close()
    assert result.exit_code == 1, result.output
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(row["reference"], row["status"]) for row in rows] == [(lacking, "failed"), (name, "pulled")]
    assert "has no image" in rows[0]["why"]


def test_missing_programs_are_named_with_their_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="apt-get install squashfs-tools"):
        Packer(PackedDir(tmp_path), RegistryClient(), "squashfs")
    with pytest.raises(UserError, match="apt-get install erofs-utils"):
        Packer(PackedDir(tmp_path), RegistryClient(), "erofs")


# -- killed, and the same command again -------------------------------------------------------------------------------


def command(packed: Path, name: str, **environment: str) -> subprocess.Popen[str]:
    """`swe-aem images pack` in a process of its own."""
    arguments = [sys.executable, "-c", "from swe_aem.cli import main; main()", "images", "pack", name, "--to", packed]
    return subprocess.Popen(arguments, env=os.environ | environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
async def test_killed_in_a_download_the_same_command_resumes_it(
    proxy: Any, image: Callable[..., Pushed], tmp_path: Path
) -> None:
    made_image = image([[file("bin/big", os.urandom(4 << 20))]], how="none")
    name, blob = made_image.name.replace(proxy.upstream, proxy.address), made_image.layers[0]
    proxy.add("stall", f"{BLOB}{blob}", times=1)
    part = tmp_path / "packed" / ".layers" / f"{blob.removeprefix('sha256:')}.part"
    with command(tmp_path / "packed", name) as process:
        await until(lambda: part.exists() and part.stat().st_size >= 1 << 20)
        process.send_signal(signal.SIGKILL)
    there_bytes = part.stat().st_size
    with command(tmp_path / "packed", name) as process:
        assert process.wait() == 0
    assert proxy.ranges == [f"bytes={there_bytes}-"]
    assert not part.parent.exists()
    assert PackedDir(tmp_path / "packed").find(name) is not None


@pytest.mark.slow
async def test_killed_while_it_writes_the_same_command_starts_over_and_leaves_nothing(
    image: Callable[..., Pushed], tmp_path: Path
) -> None:
    programs, mark = tmp_path / "bin", tmp_path / "mark"
    programs.mkdir()
    slow = programs / "sqfstar"
    slow.write_text(f"#!/bin/sh\ntouch {mark}\ncat > /dev/null\nwhile kill -0 $PPID; do sleep 0.1; done 2> /dev/null\n")
    slow.chmod(0o755)
    name = image().name
    with command(tmp_path / "packed", name, PATH=f"{programs}:{os.environ['PATH']}") as process:
        await until(mark.exists)
        process.send_signal(signal.SIGKILL)
    drafts = tmp_path / "packed" / ".drafts"
    assert len(list(drafts.iterdir())) == 1
    with command(tmp_path / "packed", name) as process:
        assert process.wait() == 0
    assert not list(drafts.iterdir())
    assert PackedDir(tmp_path / "packed").find(name) is not None
