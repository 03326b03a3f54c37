"""`swe-aem images`: the images of tasks, pulled, built, packed, unpacked, listed, and removed when the disk is full."""

import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swe_aem.cli.command import SectionedCommand
from swe_aem.cli.images_build import build
from swe_aem.cli.images_pack import pack
from swe_aem.cli.images_pull import ImagesOfTasks, References, Selection, pull, run
from swe_aem.cli.options import EngineOf, Ids, Json, Limit, Split
from swe_aem.cli.tell import tell
from swe_aem.errors import UserError
from swe_aem.sandbox.engines import ENGINES, EngineName
from swe_aem.sandbox.images.sizes import size
from swe_aem.table import table

if TYPE_CHECKING:
    from swe_aem.sandbox.images.collect import CollectionResult, Watermark
    from swe_aem.sandbox.images.engine import Engine
    from swe_aem.sandbox.images.stock import Ours, StoredImage
    from swe_aem.sandbox.images.unpack import Unpacked
    from swe_aem.sandbox.packed import PackedDir

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    help="List, pull, build, pack, unpack and remove the images that tasks run in.",
)

app.command("pull", cls=SectionedCommand)(pull)
app.command("build")(build)
app.command("pack", cls=SectionedCommand)(pack)


@app.command("ls")
def list_images(
    tasks: ImagesOfTasks = None,
    split: Split = None,
    limit: Limit = None,
    everything: Annotated[bool, typer.Option("--all", help="Also images that swe-aem neither got nor used.")] = False,
    engine: EngineOf = "docker",
    as_json: Json = False,
) -> None:
    """List images: size, id, last use, what uses them.

    Shows those on the engine, those unpacked for bubblewrap, those packed in $SWE_AEM_IMAGES with their copies on this
    host, and the prepared starts of tasks. Without --tasks: those that swe-aem pulled, unpacked, packed or used. With
    it: those that the set needs, missing ones too; exit code 1 if one is neither on the engine nor packed.

    Example: swe-aem images ls --tasks SWE-bench/SWE-bench_Verified
    """
    from swe_aem.sandbox.images.stock import obtained_by_us

    needed = Selection(tasks=tasks, split=split, limit=limit).of_tasks()
    items = run(_stock(engine, obtained_by_us(needed)))
    missing = _missing(items, needed)
    if tasks is not None:
        shown = [item for item in items if _serves(item, needed)]
        ids = {item.image_id for item in shown if item.place == "engine"}
        shown += [item for item in items if item.place == "engine" and item.layer_of in ids]
    else:
        known = [item for item in items if item.ours or item.used_s is not None or item.place == "packed"]
        shown = items if everything else known
    if as_json:
        for item in shown:
            typer.echo(item.model_dump_json())
    else:
        _show_items(shown)
    for name in missing:
        typer.echo(f"missing  {name}  ({needed[name]} tasks)", err=as_json)
    total = size(sum(item.size_bytes for item in shown))
    tell(f"{len(shown)} images, at most {total} (layers may be shared); {len(missing)} missing")
    raise typer.Exit(1 if missing else 0)


@app.command()
def unpack(
    references: References = None,
    tasks: ImagesOfTasks = None,
    split: Split = None,
    ids: Ids = None,
    limit: Limit = None,
    engine: EngineOf = "docker",
) -> None:
    """Unpack images of the engine for bubblewrap.

    They become root file systems in the cache. An image that is unpacked already is not unpacked again.

    Example: swe-aem images unpack debian:12
    """

    run(_unpack(engine, list(Selection(references or (), tasks, split, ids, limit).images())))


@app.command()
def gc(
    high: Annotated[str, typer.Option("--high", help="Remove images only if the disk is fuller than this.")] = "85%",
    low: Annotated[str, typer.Option("--low", help="Stop once it is no fuller than this.")] = "70%",
    free: Annotated[
        str | None,
        typer.Option("--free", metavar="SIZE", help="Keep so much free, e.g. 50GiB, instead of --high and --low."),
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option("--tasks", metavar="SET", help="Images of this set may go, whoever got them; repeat for more."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Any image may go, also those that swe-aem did not get.")
    ] = False,
    disk: Annotated[
        str | None,
        typer.Option("--disk", metavar="PATH", help="A path on the engine's disk, if the engine runs elsewhere."),
    ] = None,
    engine: EngineOf = "docker",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: Json = False,
) -> None:
    """Free disk space: remove images, the least recently used first.

    Ends once the disk is below its watermark. Only images that swe-aem pulled, unpacked or packed from a registry,
    copies of packed ones, and prepared starts are removed, unless you say otherwise; never one that a container or a
    live sandbox uses, or that a running rollout has used. Exit code 1 if there is still too little space at the end.

    Example: swe-aem images gc --high 80% --low 60% --dry-run
    """
    from swe_aem.sandbox.images.collect import Watermark, parse_share
    from swe_aem.sandbox.images.sizes import parse_bytes
    from swe_aem.sandbox.images.stock import obtained_by_us

    mark = Watermark(high=parse_share(high), low=parse_share(low))
    if mark.low > mark.high:
        raise UserError(f"--low {low} is above --high {high}; give a lower one")
    if free is not None:
        mark = Watermark(high=1.0, low=1.0, free_bytes=parse_bytes(free))
    needed = [image for source in tasks or [] for image in Selection(tasks=source).of_tasks()]
    ours = obtained_by_us(needed, everything=everything)
    collected = run(_collect(engine, mark, ours, disk, dry_run))
    for one in collected:
        typer.echo(one.model_dump_json()) if as_json else _show_collected(one, dry_run)
    raise typer.Exit(0 if all(one.reached for one in collected) or dry_run else 1)


async def _stock(name: EngineName, ours: "Ours") -> "list[StoredImage]":
    """All images on the engine (left out, and told, if none answers), in the cache and packed."""
    from swe_aem.sandbox.images.engine import connect
    from swe_aem.sandbox.images.ledger import Ledger
    from swe_aem.sandbox.images.stock import engine_stock, packed_stock, roots_stock
    from swe_aem.sandbox.packed import configured_dir

    items = []
    try:
        async with connect(ENGINES[name]) as engine:
            items += await engine_stock(engine, Ledger.of_engine(engine.kind), ours)
    except UserError as error:
        tell(f"images of the engine left out: {error}")
    return [*items, *await roots_stock(Ledger.of_roots(), ours), *await packed_stock(configured_dir())]


async def _unpack(name: EngineName, images: list[str]) -> None:
    from swe_aem.sandbox.images.engine import connect
    from swe_aem.sandbox.images.ledger import Ledger
    from swe_aem.sandbox.images.unpack import unpack as unpack_one

    async with connect(ENGINES[name]) as engine:
        for image in dict.fromkeys(images):
            done: Unpacked = await unpack_one(engine, Ledger.of_roots(), image)
            typer.echo(f"{image}: {done.path} ({size(done.size_bytes)}{'' if done.fresh else ', was there'})")


async def _collect(
    name: EngineName, mark: "Watermark", ours: "Ours", disk: str | None, dry_run: bool
) -> "list[CollectionResult]":
    """Collect on each disk once: the engine's, the cache's and that of packed images."""
    import os

    from swe_aem.sandbox.images.collect import Collector, sweep_drafts
    from swe_aem.sandbox.images.engine import connect
    from swe_aem.sandbox.images.ledger import Ledger
    from swe_aem.sandbox.images.stock import engine_stock
    from swe_aem.sandbox.packed import configured_dir

    engine_ledger, roots_ledger, packed = Ledger.of_engine(ENGINES[name]), Ledger.of_roots(), configured_dir()
    if not dry_run:
        sweep_drafts()
    async with AsyncExitStack() as stack:
        engine, found = None, await _files_by_place(packed, ours)
        try:
            engine = await stack.enter_async_context(connect(ENGINES[name]))
        except UserError as error:
            if packed is None:
                raise
            tell(f"images of the engine left out: {error}")
        else:
            found.insert(0, (await _data_root(engine, disk), await engine_stock(engine, engine_ledger, ours)))
        by_disk: dict[int, tuple[Path, list[StoredImage]]] = {}
        for path, items in found:
            by_disk.setdefault(os.stat(path).st_dev, (path, []))[1].extend(items)
        collector = Collector(engine, engine_ledger, roots_ledger, dry_run=dry_run)
        return [await collector.collect(path, items, mark) for path, items in by_disk.values()]


async def _data_root(engine: "Engine", disk: str | None) -> Path:
    """A path on the disk of an engine."""
    data_root = Path(disk) if disk is not None else await engine.data_root()
    if data_root is None or not data_root.exists():
        raise UserError(
            "the engine's disk cannot be seen from here: run this on the engine's host, or name a path on that disk "
            "with --disk"
        )
    return data_root


async def _files_by_place(packed: "PackedDir | None", ours: "Ours") -> "list[tuple[Path, list[StoredImage]]]":
    """What is in the cache, and what is packed, each with the directory that it is in; places without anything are
    left out."""
    from swe_aem.cache import cache_dir
    from swe_aem.sandbox.images.ledger import Ledger
    from swe_aem.sandbox.images.stock import packed_stock, roots_stock

    files = await packed_stock(packed)
    copies = [item for item in files if item.place == "copy"]
    found = [(cache_dir() / "rootfs", await roots_stock(Ledger.of_roots(), ours)), (cache_dir() / "packed", copies)]
    if packed is not None:
        found.append((packed.path, [item for item in files if item.place != "copy"]))
    return [(path, items) for path, items in found if path.is_dir()]


def _serves(item: "StoredImage", needed: dict[str, int]) -> bool:
    from swe_aem.sandbox.images.reference import canonical
    from swe_aem.sandbox.roots import rootfs_dir

    if item.place in ("start", "copy"):
        return False
    if item.place in ("rootfs", "layer"):
        return item.names[0].partition("@")[0] in {rootfs_dir(image).name for image in needed}
    return not {canonical(name) for name in item.names}.isdisjoint(map(canonical, needed))


def _missing(items: "list[StoredImage]", needed: dict[str, int]) -> list[str]:
    from swe_aem.sandbox.images.reference import canonical

    there = {canonical(name) for item in items if item.place in ("engine", "packed") for name in item.names}
    return [image for image in needed if canonical(image) not in there]


def _show_items(items: "list[StoredImage]") -> None:
    rows = []
    for item in sorted(items, key=lambda item: (item.place, -(item.used_s or 0.0), item.names)):
        used = _ago(time.time() - item.used_s) if item.used_s is not None else "never"
        id = (item.image_id or "-").removeprefix("sha256:")[:12]
        state = f"in use by {item.in_use}" if item.in_use else _about(item)
        rows.append((item.place, size(item.size_bytes), id, used, ", ".join(item.names), state))
    for line in table(rows, align="<><><"):
        typer.echo(line)


def _about(item: "StoredImage") -> str:
    """What there is to say of an image that nothing uses."""
    if not item.ours:
        return "in no registry" if item.place == "packed" else "not by swe-aem"
    if item.layer_of:
        return f"prepared start on {item.layer_of.removeprefix('sha256:')[:12]}"
    return {"start": "prepared start", "copy": "copy on this host"}.get(item.place, "")


def _show_collected(collected: "CollectionResult", dry_run: bool) -> None:
    gone = [removal for removal in collected.removals if removal.outcome != "kept"]
    kept = [removal for removal in collected.removals if removal.outcome == "kept"]
    for removal in gone:
        used = "never used" if removal.item.used_s is None else f"used {_ago(time.time() - removal.item.used_s)} ago"
        typer.echo(f"{removal.outcome}  {removal.item.names[0]}  {size(removal.item.size_bytes)}  {used}")
    for removal in kept:
        if removal.item.ours:
            typer.echo(f"kept  {removal.item.names[0]}  in use by {removal.why}")
    before, after = collected.before, collected.after
    typer.echo(
        f"{collected.disk}: {before.used_share:.1%} full, {size(before.free)} free; "
        + (f"at most {after.used_share:.1%} and {size(after.free)} " if dry_run else "now ")
        + ("after that" if dry_run else f"{after.used_share:.1%}, {size(after.free)} free")
        + f"; {len(gone)} images {'would go' if dry_run else 'removed'}, {len(kept)} kept"
    )
    if not collected.reached:
        still = "would still be" if dry_run else "still"
        typer.echo(f"{still} too full: nothing else may be removed; `swe-aem images ls --all` shows what is there")


def _ago(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
