"""`swe-aem images pack`: images as one read-only file each, from a registry without any engine, or from an engine."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from swe_aem.cli.images_pull import (
    ADVICE,
    PATIENCE,
    ImagesOfTasks,
    Mirrors,
    Pins,
    References,
    Selection,
    pull_to,
    report,
    run,
    wanted,
)
from swe_aem.cli.mirror import with_settings
from swe_aem.cli.options import Ids, Json, Limit, Split
from swe_aem.cli.tell import tell
from swe_aem.errors import UserError
from swe_aem.sandbox.engines import ENGINES
from swe_aem.sandbox.images.failures import PullError, PullFailure
from swe_aem.sandbox.images.pull import PullConfig, Pulled, Want
from swe_aem.sandbox.images.sizes import size
from swe_aem.sandbox.packed import PACKED_DIR, PackedDir, PackFormat

if TYPE_CHECKING:
    from swe_aem.sandbox.engines import EngineName

_Source = Literal["registry", "docker", "podman"]
_ADVICE = ADVICE | {
    "disk full": "free some space there, or choose another directory with --to; then repeat the command"
}


@with_settings(PullConfig, PATIENCE)
def pack(
    given: dict[str, Any],
    references: References = None,
    tasks: ImagesOfTasks = None,
    split: Split = None,
    ids: Ids = None,
    limit: Limit = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="DIR", help=f"Where the files go; ${PACKED_DIR} by default.", show_default=False),
    ] = None,
    format: Annotated[
        PackFormat, typer.Option("--format", help="squashfs is smaller and needs no root; erofs reads faster.")
    ] = "squashfs",
    source: Annotated[
        _Source, typer.Option("--from", help="A registry, without any engine; or an engine that has the images.")
    ] = "registry",
    starts: Annotated[
        bool, typer.Option("--starts", help="With --tasks: prepare each task's start too, its history scrubbed.")
    ] = False,
    mirror: Mirrors = None,
    pins: Pins = None,
    as_json: Json = False,
) -> None:
    """Pack images as one file each, for bubblewrap.

    The files are read-only, for any number of hosts. No engine is needed. Repeat the command to resume: layers that
    were downloaded and images that are packed stay. Mirrors, rate limits, credentials and pins are those of
    `swe-aem images pull`. Exit code 1 if an image is missing at the end.

    Example: swe-aem images pack --tasks SWE-bench/SWE-bench_Verified --limit 20 --to /shared/images
    """
    selection = Selection(references or (), tasks, split, ids, limit)
    packed = PackedDir(_directory(to))
    if starts and tasks is None:
        raise UserError("--starts prepares the starts of tasks: give --tasks SET with it")
    if source != "registry":
        if mirror or pins:
            raise UserError("--mirror and --pins are about registries: leave them out with --from docker or podman")
        failures = run(_pack_from_engine(source, list(selection.images()), packed, format, as_json))
        if starts:
            _pack_starts(selection, packed)
        raise typer.Exit(1 if failures else 0)
    results = run(_pack(wanted(selection, pins), packed, format, PullConfig(**given), mirror or [], pins, as_json))
    if not as_json:
        report(results, "packed", _ADVICE, _how_to_get)
    if starts:
        _pack_starts(selection, packed)
    raise typer.Exit(1 if any(result.status == "failed" for result in results) else 0)


def _pack_starts(selection: Selection, packed: PackedDir) -> None:
    """Prepare and pack the starts of the selected tasks whose images are packed."""
    from swe_aem.core.settings import check
    from swe_aem.rollout import RolloutConfig
    from swe_aem.rollout.packed_starts import pack_starts

    assert selection.tasks is not None
    config = check(RolloutConfig, {"tasks": selection.tasks, "split": selection.split})
    done = run(pack_starts(config, selection.task_set(selection.tasks), packed, tell))
    tell(f"starts: {done.packed} packed, {done.present} were there, {done.quick} are quick enough without a file")


def _directory(to: Path | None) -> Path:
    named = to or os.environ.get(PACKED_DIR)
    if not named:
        raise UserError(f"say where the files go: --to DIR, or {PACKED_DIR}=DIR")
    return Path(named).expanduser().absolute()


def _how_to_get(image: str) -> str:
    from swe_aem.sandbox.images.recipes import how_to_get

    return f"{how_to_get(image)} on a host with an engine, and there `swe-aem images pack {image} --from docker`"


async def _pack(
    wants: list[Want],
    packed: PackedDir,
    format: PackFormat,
    config: PullConfig,
    mirrors: Sequence[str],
    pins: Path | None,
    as_json: bool,
) -> list[Pulled]:
    from swe_aem.sandbox.images.ledger import Ledger
    from swe_aem.sandbox.images.pack.packer import Packer
    from swe_aem.sandbox.images.pack.registry import RegistryClient

    async with RegistryClient() as client:
        packer = Packer(packed, client, format)
        results = await pull_to(packer, Ledger.of_packed(packed.path), wants, config, mirrors, pins, as_json)
        packer.close(finished=all(result.status != "failed" for result in results))
        return results


async def _pack_from_engine(
    name: "EngineName", images: Sequence[str], packed: PackedDir, format: PackFormat, as_json: bool
) -> int:
    """Pack what an engine has; the number of images that could not be packed."""
    from swe_aem.sandbox.images.engine import connect
    from swe_aem.sandbox.images.pack.packer import Packer
    from swe_aem.sandbox.images.pack.registry import RegistryClient

    async with connect(ENGINES[name]) as engine, RegistryClient() as client:
        packer = Packer(packed, client, format)
        failures = 0
        for image in dict.fromkeys(images):
            try:
                made, fresh = await packer.from_engine(engine, image)
            except PullError as error:
                if error.kind is PullFailure.NO_SPACE:
                    raise
                failures += 1
                result = Pulled(reference=image, status="failed", failure=error.kind, why=error.said)
                said = f"{image}: {error}"
            else:
                status: Literal["pulled", "present"] = "pulled" if fresh else "present"
                facts = {"image_id": made.image_id, "size_bytes": made.size_bytes}
                result = Pulled(reference=image, status=status, **facts)
                said = f"{image}: {packed.file(made)} ({size(made.size_bytes)}{'' if fresh else ', was there'})"
            typer.echo(result.model_dump_json() if as_json else said)
        return failures
