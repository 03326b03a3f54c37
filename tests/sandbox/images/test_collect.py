"""Last uses, holds, and making room: what is removed, in which order, and what never is."""

import asyncio
import io
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import docker
import pytest

from swe_aem.core import Limits, SandboxSpec
from swe_aem.errors import UserError
from swe_aem.sandbox import open_backend, roots
from swe_aem.sandbox.bubblewrap import BubblewrapBackend
from swe_aem.sandbox.docker import DockerBackend
from swe_aem.sandbox.images.collect import CollectionResult, Collector, Disk, Watermark
from swe_aem.sandbox.images.engine import Engine, connect
from swe_aem.sandbox.images.ledger import Ledger, LedgerEntry
from swe_aem.sandbox.images.pull import PullConfig, Puller, Want
from swe_aem.sandbox.images.reference import Reference
from swe_aem.sandbox.images.stock import StoredImage, engine_stock, obtained_by_us, roots_stock
from swe_aem.sandbox.images.unpack import unpack

MakeImage = Callable[..., Any]
NO_LIMITS = Limits(memory_bytes=None, cpus=None, pids=None, disk_bytes=None)


@pytest.fixture
async def engine(require_docker: None) -> AsyncIterator[Engine]:
    """The real engine."""
    async with connect() as connected:
        yield connected


@pytest.fixture
def pull(engine: Engine, registry: str, make_image: MakeImage, hasty: PullConfig) -> Callable[..., Any]:
    """Makes images, pulls them, and gives each a last use: its place in the argument list."""

    async def run(*names: str) -> list[str]:
        references = [make_image().at(registry) for _ in names]
        ledger = Ledger.of_engine()
        wants = [Want(reference=Reference.parse(reference)) for reference in references]
        await Puller(engine, ledger, config=hasty).pull_all(wants)
        for place, reference in enumerate(references):
            ledger.touch(reference, at_s=1000.0 + place)
        return references

    return run


class SmallDisk:
    """A disk of 100 bytes on which each of our images takes 10: what is free follows from what the engine still has."""

    def __init__(self, names: Sequence[str], used: int) -> None:
        self._names = names
        self._used = used
        self._client = docker.from_env()

    def __call__(self, path: Path) -> Disk:
        tags = {tag for image in self._client.api.images() for tag in image["RepoTags"] or ()}
        gone = sum(name not in tags for name in self._names)
        return Disk(total=100, free=100 - self._used + 10 * gone)


async def collect(engine: Engine, disk: SmallDisk, mark: Watermark, **how: Any) -> CollectionResult:
    """Collect among all images of the engine."""
    ledger = Ledger.of_engine()
    items = await engine_stock(engine, ledger, obtained_by_us(**how))
    return await Collector(engine, ledger, Ledger.of_roots()).collect(Path("/"), items, mark, disk)


def outcomes(collected: CollectionResult) -> dict[str, str]:
    """First name to what became of it."""
    return {removal.item.names[0]: removal.outcome for removal in collected.removals}


# -- the ledger -------------------------------------------------------------------------------------------------------


def test_a_use_is_noted_under_every_way_to_write_a_name() -> None:
    ledger = Ledger.of_engine()
    ledger.record(LedgerEntry(name="docker.io/library/debian:latest", origin="pull"))
    ledger.touch("debian", at_s=5.0)
    ((name, (entry, used_s)),) = ledger.entries().items()
    assert (name, entry.origin, used_s) == ("docker.io/library/debian:latest", "pull", 5.0)
    ledger.forget("library/debian:latest")
    assert not ledger.entries()


async def test_a_cache_that_cannot_be_written_stops_no_start(own_cache: Path) -> None:
    own_cache.write_text("in the way")
    ledger = Ledger.of_engine()
    await ledger.reserve("a/b")
    ledger.use("a/b")
    with pytest.raises(UserError, match="SWE_AEM_CACHE"):
        async with ledger.hold("a/b"):
            pass


async def test_a_hold_ends_with_its_block_its_time_or_its_process() -> None:
    ledger = Ledger.of_engine()
    async with ledger.hold("a/b"), ledger.hold("c/d", ttl_s=-1):
        assert set(ledger.held()) == {"docker.io/a/b:latest"}
    code = (
        "import asyncio; from swe_aem.sandbox.images.ledger import Ledger\n"
        "asyncio.run(Ledger.of_engine().reserve('e/f')); print(len(Ledger.of_engine().held()))"
    )
    other = [sys.executable, "-c", code]
    done = await asyncio.to_thread(subprocess.run, other, check=True, capture_output=True, text=True)
    assert done.stdout == "1\n"
    assert not ledger.held()


async def test_who_reserves_while_an_image_is_removed_waits_until_it_is_gone() -> None:
    ledger, order = Ledger.of_engine(), []

    async def start() -> None:
        await Ledger.of_engine().reserve("a/b")
        order.append("reserved")

    async with ledger.removing(["a/b"]) as holder:
        assert holder is None
        starting = asyncio.create_task(start())
        await asyncio.sleep(0.2)
        order.append("removed")
    await starting
    assert order == ["removed", "reserved"]
    async with ledger.removing(["a/b"]) as holder:
        assert holder is not None


# -- the engine's images ----------------------------------------------------------------------------------------------


@pytest.mark.docker
async def test_the_least_recently_used_go_first_and_only_until_there_is_room(engine: Engine, pull: Any) -> None:
    names = await pull("a", "b", "c", "d")
    collected = await collect(engine, SmallDisk(names, used=90), Watermark(high=0.85, low=0.7))
    gone = [name for name, outcome in outcomes(collected).items() if outcome == "removed"]
    assert gone == names[:2]
    assert collected.reached
    assert [await engine.inspect(name) is not None for name in names] == [False, False, True, True]
    assert set(Ledger.of_engine().entries()) == set(names[2:])


@pytest.mark.docker
async def test_below_the_high_mark_nothing_is_touched(engine: Engine, pull: Any) -> None:
    names = await pull("a")
    collected = await collect(engine, SmallDisk(names, used=84), Watermark(high=0.85, low=0.1))
    assert (collected.removals, collected.reached) == ((), True)


@pytest.mark.docker
async def test_what_is_in_use_or_not_ours_stays(engine: Engine, pull: Any, registry: str) -> None:
    in_container, held, shared, free = names = await pull("a", "b", "c", "d")
    client = docker.from_env()
    container = client.api.create_container(in_container, ["true"])["Id"]  # never started: it still needs its image
    client.images.get(shared).tag(f"{registry}/swe-aem-test/somebody-elses", "1")
    try:
        async with Ledger.of_engine().hold(held):
            collected = await collect(engine, SmallDisk(names, used=90), Watermark(high=0, low=0))
    finally:
        client.api.remove_container(container)
        client.images.remove(f"{registry}/swe-aem-test/somebody-elses:1")
    told = outcomes(collected)
    assert [told[name] for name in (in_container, held, free)] == ["kept", "kept", "removed"]
    assert await engine.inspect(shared) is not None
    assert not collected.reached
    assert [outcome for outcome in told.values() if outcome == "removed"] == ["removed"]  # nothing else of this engine


@pytest.mark.docker
async def test_a_container_that_comes_after_the_look_keeps_its_image(engine: Engine, pull: Any) -> None:
    (name,) = await pull("a")
    client = docker.from_env()
    client.images.get(name).tag(name.rpartition(":")[0], "2")
    Ledger.of_engine().record(LedgerEntry(name=name.replace(":1", ":2"), origin="pull"))
    items = [item for item in await engine_stock(engine, Ledger.of_engine(), obtained_by_us()) if name in item.names]
    container = client.api.create_container(name, ["true"])["Id"]
    try:
        collector = Collector(engine, Ledger.of_engine(), Ledger.of_roots())
        collected = await collector.collect(Path("/"), items, Watermark(high=0, low=0), SmallDisk([name], used=50))
        assert [removal.why for removal in collected.removals] == ["a container uses it"]
        image = await engine.inspect(name)
        assert image is not None
        assert set(image.tags) == set(items[0].names)
    finally:
        client.api.remove_container(container)


@pytest.mark.docker
async def test_a_sandbox_that_starts_keeps_its_image_and_is_told_of_one_that_is_gone(engine: Engine, pull: Any) -> None:
    kept, gone = names = await pull("a", "b")
    backend = open_backend("docker")
    await backend.image_digest(kept)  # what a run does first; from now on the image is reserved
    collected = await collect(engine, SmallDisk(names, used=90), Watermark(high=0, low=0))
    assert [outcomes(collected)[name] for name in names] == ["kept", "removed"]
    with pytest.raises(UserError, match="swe-aem images pull"):
        async with backend.open(SandboxSpec(image=gone)):
            pass


@pytest.mark.docker
async def test_starts_and_collections_at_once_end_in_a_sandbox_or_in_a_plain_word(engine: Engine, pull: Any) -> None:
    """Whoever wins, a start never finds that its image is there and then loses it."""
    names = await pull(*"abcdef")
    backend = open_backend("docker")

    async def start(name: str) -> str:
        try:
            await backend.image_digest(name)
            return "there"
        except UserError:
            return "gone"

    disk = SmallDisk(names, used=90)
    starting = [asyncio.create_task(start(name)) for name in names[::-1]]
    collected = await collect(engine, disk, Watermark(high=0, low=0))
    found = dict(zip(names[::-1], await asyncio.gather(*starting), strict=True))
    for name in names:
        assert (found[name] == "there") == (await engine.inspect(name) is not None)
        assert (found[name] == "there") == (outcomes(collected)[name] == "kept")


# -- unpacked roots ---------------------------------------------------------------------------------------------------


@pytest.mark.docker
@pytest.mark.bubblewrap
@pytest.mark.slow
async def test_an_image_is_unpacked_runs_in_bubblewrap_and_goes_when_nobody_needs_it(
    engine: Engine, registry: str, require_bubblewrap: None
) -> None:
    alias = f"{registry}/swe-aem-test/unpacked:1"
    client = docker.from_env()
    client.images.get("swe-aem/micro:1").tag(alias)
    ledger = Ledger.of_roots()
    try:
        first = await unpack(engine, ledger, alias)
        assert (first.fresh, (await unpack(engine, ledger, alias)).fresh) == (True, False)
    finally:
        client.images.remove(alias)
    spec = SandboxSpec(image=alias, workdir="/root", limits=NO_LIMITS, ttl_s=900)
    backend = BubblewrapBackend()
    assert await backend.image_digest(alias) == first.image_id
    async with backend.open(spec) as sandbox:
        result = await sandbox.run("stat -c %U:%a /usr/bin/passwd && git --version", timeout_s=60)
        assert result.exit_code == 0, result.output
        assert "root:4755" in result.output
        (item,) = await roots_stock(ledger, obtained_by_us())
        assert (item.in_use, item.ours) == ("a live sandbox", True)
        assert await remove_root(item) == "kept"
    (item,) = await roots_stock(ledger, obtained_by_us())
    assert item.in_use is not None  # this process used it, and may do so again
    for hold in (ledger.directory / "holds").iterdir():
        hold.unlink()
    (item,) = await roots_stock(ledger, obtained_by_us())
    assert await remove_root(item) == "removed"
    assert not first.path.exists()
    assert not list(first.path.parent.iterdir())


DOCKERFILE = b"""
FROM swe-aem/micro:1
ENV FOO="two  words=and more" PATH=/opt/own/bin:/usr/bin:/bin PAGER=less
RUN ln -s %s /.swe-aem-env && mkdir -p /.swe-aem-digest/deep
"""


@pytest.mark.docker
@pytest.mark.bubblewrap
@pytest.mark.slow
async def test_an_images_environment_means_the_same_on_both_backends(
    engine: Engine, require_bubblewrap: None, tmp_path: Path
) -> None:
    outside, name = tmp_path / "outside", "swe-aem-test/environment:1"
    client = docker.from_env()
    dockerfile = io.BytesIO(DOCKERFILE % str(outside).encode())
    await asyncio.to_thread(client.images.build, fileobj=dockerfile, tag=name, rm=True, network_mode="none")
    spec = SandboxSpec(image=name, workdir="/root", limits=NO_LIMITS, ttl_s=900, env={"OWN": "spec"})
    seen = []
    try:
        unpacked = await unpack(engine, Ledger.of_roots(), name)
        for backend in (BubblewrapBackend(), DockerBackend()):
            async with backend.open(spec) as sandbox:
                seen.append((await sandbox.run("env | sort", timeout_s=60)).output)
    finally:
        client.images.remove(name, force=True)
    assert seen[0] == seen[1]
    for line in ("FOO=two  words=and more", "PATH=/opt/own/bin:/usr/bin:/bin", "PAGER=cat", "OWN=spec", "HOME=/root"):
        assert line in seen[0].splitlines()
    assert not outside.exists()

    (unpacked.path / roots.ROOTFS_ENV).unlink()  # as an earlier version left it
    with pytest.raises(UserError, match=f"images unpack {name}"):
        async with BubblewrapBackend().open(spec):
            pass


def test_a_root_made_by_hand_has_no_environment(tmp_path: Path) -> None:
    assert roots.rootfs_environment(tmp_path, "a/b:1") == {}


async def remove_root(item: StoredImage) -> str:
    """What becomes of a root when everything must go."""
    collector = Collector(None, Ledger.of_engine(), Ledger.of_roots())
    collected = await collector.collect(Path("/"), [item], Watermark(high=0, low=0), lambda path: Disk(100, 10))
    return collected.removals[0].outcome


async def test_a_root_that_somebody_made_by_hand_is_not_ours() -> None:
    path = roots.rootfs_dir("a/b:1")
    (path / "bin").mkdir(parents=True)
    (item,) = await roots_stock(Ledger.of_roots(), obtained_by_us())
    assert await remove_root(item) == "kept"
    (item,) = await roots_stock(Ledger.of_roots(), obtained_by_us(["a/b:1"]))
    assert await remove_root(item) == "removed"


@pytest.mark.docker
async def test_a_failed_unpacking_leaves_nothing(engine: Engine, pull: Any) -> None:
    (name,) = await pull("no /bin in it")
    with pytest.raises(UserError, match="no /bin"):
        await unpack(engine, Ledger.of_roots(), name)
    assert not list(roots.rootfs_dir(name).parent.iterdir())
    with pytest.raises(UserError, match="images pull"):
        await unpack(engine, Ledger.of_roots(), "swe-aem-test/never-pulled:1")
