"""Packed images, their starts and their copies in `images ls` and `images gc`."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from swe_aem.cli.images import app
from swe_aem.sandbox.images.collect import Collector, Disk, Watermark
from swe_aem.sandbox.images.ledger import Ledger
from swe_aem.sandbox.images.stock import packed_stock
from swe_aem.sandbox.packed import PACKED_DIR, PackedDir, PackedImage
from tests.task_rows import write_tasks

NAMES = ["registry.invalid/one:1", "registry.invalid/two:1", "registry.invalid/own:1"]


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackedDir:
    """Three packed images, the last of which no registry has, a start and a copy; no engine."""
    directory = PackedDir(tmp_path / "packed")
    (directory.path / "starts").mkdir(parents=True)
    monkeypatch.setenv(PACKED_DIR, str(directory.path))
    monkeypatch.setenv("SWE_AEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    monkeypatch.setattr("swe_aem.sandbox.packed_mounts.state_dir", lambda: tmp_path / "state")
    for number, name in enumerate(NAMES):
        image = PackedImage(
            reference=name,
            image_id=f"sha256:{64 * str(number)}",
            digest=None if "own" in name else f"sha256:{64 * 'd'}",
            format="squashfs",
            size_bytes=1000,
            env=(),
        )
        directory.file(image).write_bytes(bytes(1000))
        directory.name(image)
    draft = tmp_path / "draft"
    draft.write_bytes(bytes(500))
    directory.keep_start("f" * 32, draft)
    copies = tmp_path / "cache" / "packed"
    copies.mkdir(parents=True)
    (copies / directory.files()[0].name).write_bytes(bytes(1000))
    return directory


def images(*arguments: str) -> tuple[int, str, str]:
    """Run `swe-aem images`."""
    result = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def test_ls_shows_what_is_packed_and_misses_nothing_that_is(packed: PackedDir, tmp_path: Path) -> None:
    code, out, err = images("ls")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["copy", "packed", "packed", "packed", "start"]
    assert "in no registry" in out
    assert "images of the engine left out" in err
    tasks = tmp_path / "tasks.jsonl"
    write_tasks(tasks, NAMES[:2])
    code, out, _ = images("ls", "--tasks", str(tasks))
    assert (code, [line.split()[0] for line in out.splitlines()]) == (0, ["packed", "packed"])
    write_tasks(tasks, [*NAMES[:2], "registry.invalid/other:1"])
    code, out, _ = images("ls", "--tasks", str(tasks))
    assert (code, out.count("missing")) == (1, 1)


async def test_gc_removes_least_recently_used_first_and_never_what_is_needed_or_in_no_registry(
    packed: PackedDir,
) -> None:
    one, two, own, start = packed.files()
    uses = Ledger.beside_packed(packed.path)
    for number, file in enumerate((one, two, own, start)):
        uses.touch(file.name, at_s=1000.0 + number)
    used_elsewhere = Ledger.beside_packed(packed.path)  # that of another process
    await used_elsewhere.reserve(two.name)
    collector = Collector(None, Ledger.of_roots(), Ledger.of_roots())
    items = [item for item in await packed_stock(packed) if item.place != "copy"]
    assert {item.path: item.in_use is not None for item in items} == {one: False, two: True, own: False, start: False}
    done = await collector.collect(packed.path, items, Watermark(high=0.0, low=0.0), lambda path: Disk(100, 50))
    removed = [removal.item.path for removal in done.removals if removal.outcome == "removed"]
    assert removed == [one, start]
    assert packed.files() == [two, own]
    assert [image.reference for image in packed.images()] == [NAMES[2], NAMES[1]]
    assert not list((packed.path / "starts").iterdir())
    used_elsewhere.release(two.name)


async def test_one_that_was_reserved_meanwhile_stays(packed: PackedDir) -> None:
    items = await packed_stock(packed)
    copy = next(item for item in items if item.place == "copy")
    assert copy.path is not None
    needed = Ledger.of_copies()
    await needed.reserve(copy.path.name)
    collector = Collector(None, Ledger.of_roots(), Ledger.of_roots())
    kept = await collector.remove(copy)
    assert (kept.outcome, kept.why) == ("kept", f"process {os.getpid()} on {os.uname().nodename}")
    needed.release(copy.path.name)
    assert (await collector.remove(copy)).outcome == "removed"
    assert not copy.path.exists()


def test_gc_works_without_an_engine_where_images_are_packed(packed: PackedDir) -> None:
    code, out, err = images("gc", "--high", "0%", "--low", "0%", "--dry-run")
    assert code == 0
    assert out.count("would be removed") == 4  # both that a registry has, the start and the copy
    assert "images of the engine left out" in err
    assert images("gc", "--high", "0%", "--low", "0%")[0] == 1  # a disk is never empty
    assert [file.name[:8] for file in packed.files()] == ["sha256-2"]
