"""`swe-aem images`: the images that tasks need, pulled, built, unpacked, listed, and removed when the disk is full."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from swe_aem.cli.images_pull import Ids, Json, Limit, Split, Tasks, pull, run, size, task_images

if TYPE_CHECKING:
    from swe_aem.sandbox.images.recipes import Recipe
    from swe_aem.sandbox.images.room import Collected, Watermark
    from swe_aem.sandbox.images.stock import Item, Ours
    from swe_aem.sandbox.images.unpack import Unpacked

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    help="List, pull, build, unpack and remove the images that tasks run in.",
)

app.command("pull")(pull)


@app.command("ls")
def list_images(
    tasks: Tasks = None,
    split: Split = None,
    limit: Limit = None,
    everything: Annotated[bool, typer.Option("--all", help="Also images that we neither got nor used.")] = False,
    as_json: Json = False,
) -> None:
    """List images on the engine and root file systems unpacked for bubblewrap: size, id, last use, what uses them.

    Without --tasks: those that were pulled, unpacked or used by swe-aem. With it: those that the set needs, missing
    ones too; exit code 1 if one is missing from the engine.

    Example: swe-aem images ls --tasks SWE-bench/SWE-bench_Verified
    """
    from swe_aem.sandbox.images.stock import obtained_by_us

    needed = task_images(tasks, split, limit=limit) if tasks is not None else {}
    items = run(_stock(obtained_by_us(needed)))
    missing = _missing(items, needed)
    if tasks is not None:
        shown = [item for item in items if _serves(item, needed)]
    else:
        shown = items if everything else [item for item in items if item.ours or item.used_s is not None]
    if as_json:
        for item in shown:
            typer.echo(item.model_dump_json())
    else:
        _show_items(shown)
    for name in missing:
        typer.echo(f"missing  {name}  ({needed[name]} tasks)", err=as_json)
    total = size(sum(item.size_bytes for item in shown))
    typer.echo(f"{len(shown)} images, at most {total} (layers may be shared); {len(missing)} missing", err=True)
    raise typer.Exit(1 if missing else 0)


@app.command()
def build(
    name: Annotated[str, typer.Argument(help="A recipe of sandboxes/, e.g. micro, or a directory with a build.sh.")],
    base: Annotated[
        str,
        typer.Option("--from", help="registry, packages (Debian's, by debootstrap), or auto: what works."),
    ] = "auto",
    mirror: Annotated[
        list[str] | None, typer.Option("--mirror", help="REGISTRY=PREFIX to ask first for the base image.")
    ] = None,
) -> None:
    """Build an image from a recipe: from a registry's base image where there is one, else from Debian packages.

    Example: swe-aem images build micro
    """
    from swe_aem.errors import UserError
    from swe_aem.sandbox.images.recipes import find_recipe

    if base not in ("auto", "registry", "packages"):
        raise UserError(f"--from {base}: choose auto, registry or packages")
    recipe = find_recipe(name)
    run(_build(recipe, base, mirror or []))


@app.command()
def unpack(
    references: Annotated[list[str] | None, typer.Argument(metavar="[REF]...", help="Images on the engine.")] = None,
    tasks: Tasks = None,
    split: Split = None,
    ids: Ids = None,
    limit: Limit = None,
) -> None:
    """Unpack images of the engine into the cache, as root file systems for the bubblewrap backend.

    A root that was made of the same image is left as it is.

    Example: swe-aem images unpack debian:12
    """
    from swe_aem.errors import UserError

    names = [*(references or []), *(task_images(tasks, split, ids, limit) if tasks is not None else {})]
    if not names:
        raise UserError("say which images: --tasks SET, or references such as debian:12")
    run(_unpack(names))


@app.command()
def gc(
    high: Annotated[str, typer.Option("--high", help="Remove images only if the disk is fuller than this.")] = "85%",
    low: Annotated[str, typer.Option("--low", help="Then stop once it is no fuller than this.")] = "70%",
    free: Annotated[
        str | None, typer.Option("--free", help="Keep this much free instead, e.g. 50GiB; sets --high and --low aside.")
    ] = None,
    tasks: Annotated[
        list[str] | None, typer.Option("--tasks", help="Images of this set may go, whoever got them; repeat for more.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Any image may go, also those that are none of ours.")
    ] = False,
    disk: Annotated[
        str | None, typer.Option("--disk", help="A path on the engine's disk, where the engine runs elsewhere.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: Json = False,
) -> None:
    """Make room: remove the images that were not used for longest, until the disk is below its watermark.

    Only images that swe-aem pulled or unpacked are removed, unless you say otherwise; never one that a container or a
    live sandbox uses, or that a running rollout has used. Exit code 1 if there is still too little room at the end.

    Example: swe-aem images gc --high 80% --low 60% --dry-run
    """
    from swe_aem.errors import UserError
    from swe_aem.sandbox.images.room import Watermark, parse_bytes, parse_share
    from swe_aem.sandbox.images.stock import obtained_by_us

    mark = Watermark(high=parse_share(high), low=parse_share(low))
    if mark.low > mark.high:
        raise UserError(f"--low {low} is above --high {high}; give a lower one")
    if free is not None:
        mark = Watermark(high=1.0, low=1.0, free_bytes=parse_bytes(free))
    needed = [image for source in tasks or [] for image in task_images(source)]
    ours = obtained_by_us(needed, everything=everything)
    collected = run(_collect(mark, ours, disk, dry_run))
    for one in collected:
        typer.echo(one.model_dump_json()) if as_json else _show_collected(one, dry_run)
    raise typer.Exit(0 if all(one.reached for one in collected) or dry_run else 1)


async def _stock(ours: "Ours") -> "list[Item]":
    """Everything on the engine (left out with a word on stderr if none answers) and in the cache."""
    from swe_aem.errors import UserError
    from swe_aem.sandbox.images.engine import connect
    from swe_aem.sandbox.images.ledger import Ledger
    from swe_aem.sandbox.images.stock import engine_stock, roots_stock

    items = []
    try:
        async with connect() as engine:
            items += await engine_stock(engine, Ledger.of_engine(), ours)
    except UserError as error:
        typer.echo(f"images of the engine left out: {error}", err=True)
    return [*items, *await roots_stock(Ledger.of_roots(), ours)]


async def _build(recipe: "Recipe", base: str, mirrors: list[str]) -> None:
    from swe_aem.errors import UserError
    from swe_aem.sandbox.images.engine import connect
    from swe_aem.sandbox.images.ledger import Ledger
    from swe_aem.sandbox.images.pull import PullConfig, Puller
    from swe_aem.sandbox.images.recipes import GLANCE
    from swe_aem.sandbox.images.recipes import build as build_recipe
    from swe_aem.sandbox.images.registries import load_credentials, load_registries

    async with connect() as engine:
        from_registry = False
        if base != "packages" and recipe.bases:
            config = PullConfig() if base == "registry" else GLANCE
            puller = Puller(
                engine,
                Ledger.of_engine(),
                config=config,
                registries=load_registries(mirrors),
                credentials=load_credentials(),
            )
            failed = [result for result in await puller.pull_all(recipe.bases) if result.status == "failed"]
            from_registry = not failed
            for result in failed:
                typer.echo(f"base image {result.reference}: {result.why}", err=True)
        if base == "registry" and not from_registry:
            raise UserError(f"{recipe.directory} cannot be built from a registry; use --from packages or a --mirror")
        typer.echo(f"building {recipe.image} from {'a registry' if from_registry else 'Debian packages'}", err=True)
        await build_recipe(recipe, from_registry=from_registry)
        image = await engine.inspect(recipe.image)
    if image is None:
        raise UserError(f"{recipe.directory}/build.sh succeeded, and the engine has no {recipe.image}")
    typer.echo(f"{recipe.image}  {image.id}  {size(image.size_bytes)}")


async def _unpack(names: list[str]) -> None:
    from swe_aem.sandbox.images.engine import connect
    from swe_aem.sandbox.images.ledger import Ledger
    from swe_aem.sandbox.images.unpack import unpack as unpack_one

    async with connect() as engine:
        for name in dict.fromkeys(names):
            done: Unpacked = await unpack_one(engine, Ledger.of_roots(), name)
            typer.echo(f"{name}: {done.path} ({size(done.size_bytes)}{'' if done.fresh else ', was there'})")


async def _collect(mark: "Watermark", ours: "Ours", disk: str | None, dry_run: bool) -> "list[Collected]":
    """Collect on each disk: the engine's, and the cache's if that is another one."""
    import os
    from pathlib import Path

    from swe_aem.cache import cache_dir
    from swe_aem.errors import UserError
    from swe_aem.sandbox.images.engine import connect
    from swe_aem.sandbox.images.ledger import Ledger
    from swe_aem.sandbox.images.room import Collector, sweep_drafts
    from swe_aem.sandbox.images.stock import engine_stock, roots_stock

    engine_ledger, roots_ledger = Ledger.of_engine(), Ledger.of_roots()
    if not dry_run:
        sweep_drafts()
    roots = await roots_stock(roots_ledger, ours)
    async with connect() as engine:
        data_root = Path(disk) if disk is not None else await engine.data_root()
        if data_root is None or not data_root.exists():
            raise UserError(
                "the engine's disk cannot be seen from here: run this on the engine's host, or name a path on that "
                "disk with --disk"
            )
        images = await engine_stock(engine, engine_ledger, ours)
        collector = Collector(engine, engine_ledger, roots_ledger, dry_run=dry_run)
        folder = cache_dir() / "rootfs"
        if not roots or os.stat(folder).st_dev == os.stat(data_root).st_dev:
            return [await collector.collect(data_root, [*images, *roots], mark)]
        return [await collector.collect(data_root, images, mark), await collector.collect(folder, roots, mark)]


def _serves(item: "Item", needed: dict[str, int]) -> bool:
    from swe_aem.sandbox.images.reference import canonical
    from swe_aem.sandbox.roots import rootfs_dir

    if item.place == "rootfs":
        return item.names[0] in {rootfs_dir(image).name for image in needed}
    return not {canonical(name) for name in item.names}.isdisjoint(map(canonical, needed))


def _missing(items: "list[Item]", needed: dict[str, int]) -> list[str]:
    from swe_aem.sandbox.images.reference import canonical

    there = {canonical(name) for item in items if item.place == "engine" for name in item.names}
    return [image for image in needed if canonical(image) not in there]


def _show_items(items: "list[Item]") -> None:
    for item in sorted(items, key=lambda item: (item.place, -(item.used_s or 0.0), item.names)):
        used = _ago(time.time() - item.used_s) if item.used_s is not None else "never"
        id = (item.image_id or "-").removeprefix("sha256:")[:12]
        state = f"in use by {item.in_use}" if item.in_use else "" if item.ours else "not ours"
        names = ", ".join(item.names)
        typer.echo(f"{item.place:6}  {size(item.size_bytes):>10}  {id:12}  {used:>8}  {names}  {state}".rstrip())


def _show_collected(collected: "Collected", dry_run: bool) -> None:
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
