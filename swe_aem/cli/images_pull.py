"""`swe-aem images pull`: the command, and the progress that it shows."""

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from swe_aem.cli.load import load_and_tell
from swe_aem.cli.mirror import Mirrored, with_settings
from swe_aem.cli.options import EngineOf, Ids, Json, Limit, Split, complete_tasks
from swe_aem.cli.tell import complain, tell
from swe_aem.errors import UserError
from swe_aem.sandbox.engines import ENGINES, EngineName
from swe_aem.sandbox.images.pull import PullConfig, Pulled, Puller, PullTarget, Want
from swe_aem.sandbox.images.sizes import size

if TYPE_CHECKING:
    from rich.table import Table

    from swe_aem.core import TaskRecord
    from swe_aem.sandbox.images.ledger import Ledger
    from swe_aem.tasks import TaskSet

T = TypeVar("T")

_TICK_S = 0.5
_LINE_EVERY_S = 30.0
_SHOWN_ROWS = 12
ADVICE = {
    "disk full": "`swe-aem images gc` frees space on the engine's disk; then repeat the command",
    "unreachable": "name a registry that the engine can reach with --mirror, or configure the engine's proxy",
    "not allowed": "`docker login REGISTRY`, or check the name: registries say this of unknown ones too",
    "not what was pinned": "the bytes behind a name have changed; pin the new ones only if you trust them",
}

References = Annotated[list[str] | None, typer.Argument(metavar="REF", help="Images, e.g. debian:12.")]
ImagesOfTasks = Annotated[
    str | None,
    typer.Option("--tasks", metavar="SET", help="The images of this task set.", autocompletion=complete_tasks),
]
Mirrors = Annotated[
    list[str] | None,
    typer.Option(
        "--mirror", metavar="REGISTRY=PREFIX", help="Ask there first, e.g. docker.io=localhost:5000; repeat for more."
    ),
]
Pins = Annotated[
    Path | None,
    typer.Option("--pins", help="File of digests: what is in it is pulled by digest, the rest is added."),
]
PATIENCE = {
    "Patience": (
        Mirrored("jobs", help="Pulls at once.", least=1),
        Mirrored("stall_s", "--stall", "Seconds without movement until a pull is tried again.", least=0.1),
        Mirrored("image_s", "--timeout", "Seconds for one image in all.", least=1),
        Mirrored("attempts", help="Attempts for one image at one registry.", least=1),
        Mirrored(
            "rate_limit_s", "--patience", "Seconds to wait for a rate limit; not part of --timeout.", "6.5 hours", 0
        ),
    )
}


@dataclass(frozen=True)
class Selection:
    """The images that a command is about."""

    references: Sequence[str] = ()
    """Named as they are."""
    tasks: str | None = None
    """Task set whose images are meant too."""
    split: str | None = None
    ids: Sequence[str] | None = None
    limit: int | None = None

    def images(self) -> dict[str, int]:
        """Image, as it is named, to the number of tasks that need it; raises `UserError` if nothing is selected."""
        if not self.references and self.tasks is None:
            raise UserError("say which images: --tasks SET, or references such as debian:12")
        return dict.fromkeys(self.references, 0) | self.of_tasks()

    def of_tasks(self) -> dict[str, int]:
        """Image to the number of tasks that need it, in the set's order."""
        counts: dict[str, int] = {}
        for record in self.records():
            counts[record.task.image] = counts.get(record.task.image, 0) + 1
        return counts

    def records(self) -> "Iterable[TaskRecord]":
        """The tasks whose images are meant."""
        return () if self.tasks is None else self.task_set(self.tasks)

    def task_set(self, tasks: str) -> "TaskSet":
        """The chosen tasks of the set `tasks`."""
        return load_and_tell(tasks, split=self.split, ids=self.ids, limit=self.limit)


@with_settings(PullConfig, PATIENCE)
def pull(
    given: dict[str, Any],
    references: References = None,
    tasks: ImagesOfTasks = None,
    split: Split = None,
    ids: Ids = None,
    limit: Limit = None,
    mirror: Mirrors = None,
    pins: Pins = None,
    lock: Annotated[
        Path | None, typer.Option("--lock", help="A tasks.lock: images must be those that preflight ran in.")
    ] = None,
    engine: EngineOf = "docker",
    as_json: Json = False,
) -> None:
    """Pull images onto the engine. Repeat the command to resume: what is there is only checked.

    A pull in which nothing moves is given up and tried again; so is a corrupt layer. When a registry says "too many
    requests", all pulls from it pause together, for as long as it asks. Mirrors are asked first, in order. Credentials
    are docker's own (`docker login`). Exit code 1 if an image is missing at the end; the table says why.

    Example: swe-aem images pull --tasks SWE-bench/SWE-bench_Verified --limit 20 --pins verified.pins --jobs 6
    """
    selection = Selection(references or (), tasks, split, ids, limit)
    wants = wanted(selection, pins, _locked(engine, lock, selection))
    results = run(_pull(engine, wants, PullConfig(**given), mirror or [], pins, as_json))
    if not as_json:
        from swe_aem.sandbox.images.recipes import how_to_get

        report(results, "pulled", ADVICE, lambda image: how_to_get(image, engine))
    raise typer.Exit(1 if any(result.status == "failed" for result in results) else 0)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; Ctrl-C is one line and exit code 130."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        complain("interrupted; nothing is left half done, repeat the command to resume")
        raise typer.Exit(130) from None


def wanted(selection: Selection, pins: Path | None, image_ids: Mapping[str, str] = {}) -> list[Want]:
    """The selected images, each with its digest in the file `pins` and its id in `image_ids` if it is there."""
    from swe_aem.sandbox.images.pins import read_pins
    from swe_aem.sandbox.images.reference import Reference

    digests = read_pins(pins) if pins is not None else {}
    wants = []
    for name in selection.images():
        reference = Reference.parse(name)
        wants.append(Want(reference=reference, digest=digests.get(str(reference)), image_id=image_ids.get(name)))
    return wants


def _locked(engine: EngineName, lock: Path | None, selection: Selection) -> dict[str, str]:
    if lock is None:
        return {}
    if selection.tasks is None:
        raise UserError("--lock says which image each task was checked in; give --tasks SET with it")
    return _locked_images(engine, lock, selection)


def _locked_images(engine: EngineName, lock: Path, selection: Selection) -> dict[str, str]:
    """Image to the id that preflight saw on the engine; raises `UserError` if it saw two."""
    from swe_aem.tasks import read_lock

    entries = read_lock(lock)
    found: dict[str, str] = {}
    for record in selection.records():
        entry = entries.get((record.task.id, engine))
        if entry is not None and found.setdefault(record.task.image, entry.image) != entry.image:
            raise UserError(
                f"{lock}: {record.task.image} was two different images during preflight; run "
                f"`swe-aem tasks check --tasks {selection.tasks} --sandbox {engine} --again`"
            )
    return found


async def _pull(
    name: EngineName, wants: list[Want], config: PullConfig, mirrors: Sequence[str], pins: Path | None, as_json: bool
) -> list[Pulled]:
    from swe_aem.sandbox.images.engine import connect
    from swe_aem.sandbox.images.ledger import Ledger

    async with connect(ENGINES[name]) as engine:
        return await pull_to(engine, Ledger.of_engine(engine.kind), wants, config, mirrors, pins, as_json)


async def pull_to(
    target: PullTarget,
    ledger: "Ledger",
    wants: list[Want],
    config: PullConfig,
    mirrors: Sequence[str],
    pins: Path | None,
    as_json: bool,
) -> list[Pulled]:
    """Pull to an engine or a directory, with progress on stderr; digests go into the file `pins`."""
    from swe_aem.sandbox.images.pins import read_pins, write_pins
    from swe_aem.sandbox.images.reference import canonical
    from swe_aem.sandbox.images.registries import load_credentials, load_registries

    registries, credentials = load_registries(mirrors), load_credentials()
    known = read_pins(pins) if pins is not None else {}

    def done(result: Pulled) -> None:
        if as_json:
            typer.echo(result.model_dump_json())
        if pins is not None and result.digest is not None and canonical(result.reference) not in known:
            known[canonical(result.reference)] = result.digest
            write_pins(pins, known)

    puller = Puller(target, ledger, config=config, registries=registries, credentials=credentials)
    showing = asyncio.create_task(_show(puller))
    try:
        return await puller.pull_all(wants, done)
    finally:
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)


def report(results: Sequence[Pulled], word: str, advice: Mapping[str, str], how_to_get: Callable[[str], str]) -> None:
    """Say what failed and why, how many images were got, and what to do: `advice` for each kind of failure, and
    `how_to_get` for an image that no registry has."""
    from swe_aem.sandbox.images.names import BUILT_HERE

    failed = [result for result in results if result.status == "failed"]
    for result in failed:
        typer.echo(f"{result.reference}: {result.failure} after {result.attempts} attempts: {result.why}")
    counts = {status: sum(result.status == status for result in results) for status in ("pulled", "present", "failed")}
    downloaded = sum(result.downloaded_bytes for result in results)
    typer.echo(
        f"{counts['pulled']} {word} ({size(downloaded)}), {counts['present']} were there, {counts['failed']} failed"
    )
    for failure, what_to_do in advice.items():
        if any(result.failure == failure for result in failed):
            typer.echo(f"{failure}: {what_to_do}")
    for result in failed:
        if result.reference.startswith(BUILT_HERE):
            typer.echo(f"{result.reference}: no registry has it; get it with {how_to_get(result.reference)}")


async def _show(puller: Puller) -> None:
    """Show progress on stderr until cancelled: a table on a terminal, else a line now and then."""
    if sys.stderr.isatty():
        await _show_table(puller)
    else:
        await _show_lines(puller)


async def _show_lines(puller: Puller) -> None:
    began_s = time.monotonic()
    notes: dict[str, str] = {}
    next_s = began_s + _LINE_EVERY_S
    try:
        while True:
            await asyncio.sleep(_TICK_S)
            _tell_notes(puller, notes, tell)
            if time.monotonic() >= next_s:
                next_s += _LINE_EVERY_S
                tell(_line(puller, time.monotonic() - began_s))
    finally:
        _tell_notes(puller, notes, tell)
        tell(_line(puller, time.monotonic() - began_s))


async def _show_table(puller: Puller) -> None:
    from rich.console import Console
    from rich.live import Live

    console, began_s = Console(stderr=True), time.monotonic()
    notes: dict[str, str] = {}
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            _tell_notes(puller, notes, lambda text: console.print(text, markup=False, highlight=False))
            live.update(_table(puller, time.monotonic() - began_s), refresh=True)
            await asyncio.sleep(_TICK_S)


def _tell_notes(puller: Puller, told: dict[str, str], say: Callable[[str], None]) -> None:
    """Tell each image's latest trouble once; final failures are left to the report."""
    for name, row in puller.rows.items():
        if row.note and row.phase != "failed" and told.get(name) != f"{row.attempts} {row.note}":
            told[name] = f"{row.attempts} {row.note}"
            say(f"{row.reference.familiar}: attempt {row.attempts}: {row.note}")


def _line(puller: Puller, wall_s: float) -> str:
    rows = list(puller.rows.values())
    phases = {phase: sum(row.phase == phase for row in rows) for phase in ("pulling", "waiting", "failed")}
    done = sum(row.phase in ("pulled", "present") for row in rows)
    done_bytes = sum(row.layers.done_bytes for row in rows)
    trouble = "".join(f", {count} {phase}" for phase, count in phases.items() if count)
    return f"[{wall_s:.0f} s] {done} of {len(rows)} images{trouble}, {size(done_bytes)} downloaded"


def _table(puller: Puller, wall_s: float) -> "Table":
    from rich.table import Table

    table = Table(title=_line(puller, wall_s), title_justify="left", show_header=False, box=None)
    active = [row for row in puller.rows.values() if row.phase in ("pulling", "waiting")]
    for row in active[:_SHOWN_ROWS]:
        done, known = row.layers.counts
        bytes_ = f"{size(row.layers.done_bytes)} of {size(row.layers.total_bytes)}" if row.layers.total_bytes else ""
        table.add_row(row.reference.familiar, row.phase, f"{done}/{known} layers", bytes_)
    return table
