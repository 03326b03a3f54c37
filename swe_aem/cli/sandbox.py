"""`swe-aem sandbox`: list and remove sandboxes of any run, or enter one."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from swe_aem.cli.options import Json, complete_sandbox
from swe_aem.cli.sandbox_shell import shell
from swe_aem.cli.tell import tell
from swe_aem.table import table

if TYPE_CHECKING:
    from swe_aem.core import SandboxBackend, SandboxInfo

T = TypeVar("T")

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, add_completion=False, help="List, remove and enter sandboxes."
)

Which = Annotated[
    str,
    typer.Option(
        "--sandbox",
        metavar="NAME|all",
        help="Sandboxes of this backend, or of all that this host has.",
        autocompletion=complete_sandbox,
    ),
]


@app.command("ls")
def list_sandboxes(sandbox: Which = "all", as_json: Json = False) -> None:
    """List live sandboxes of all runs on this host and docker engine.

    Example: swe-aem sandbox ls --sandbox docker
    """
    by_id: dict[str, SandboxInfo] = {}
    for row in (row for rows in _on_each(sandbox, lambda backend: backend.ls()) for row in rows):
        by_id.setdefault(row.id, row)  # a backend that is made of another one lists the same sandboxes
    rows = list(by_id.values())
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row.model_dump()))
        return
    cells = []
    for row in rows:
        state = "orphan" if not row.owner_alive else "expired" if row.expired else "live"
        labels = " ".join(f"{key}={value}" for key, value in sorted(row.labels.items()))
        cells.append((row.id, row.backend, state, f"{row.age_s:.0f} s", row.image, labels))
    for line in table(cells, align="<<<><<"):
        typer.echo(line)
    tell(f"{len(rows)} sandboxes")


@app.command()
def prune(
    sandbox: Which = "all",
    everything: Annotated[
        bool, typer.Option("--all", help="Also those of runs that are still alive. They lose their sandboxes.")
    ] = False,
) -> None:
    """Remove what dead runs left.

    These are sandboxes whose owner has died or whose time is over, and scratch directories and agents' records of dead
    runs on this host.
    Only what swe-aem made is touched.

    Example: swe-aem sandbox prune
    """
    from swe_aem.core.scratch import sweep_scratch
    from swe_aem.fleet.host_shares import sweep_shares

    gone = [*map(str, sweep_scratch()), *sweep_shares()]
    gone += [id for ids in _on_each(sandbox, lambda backend: backend.prune(everything=everything)) for id in ids]
    for id in gone:
        typer.echo(id)
    tell(f"{len(gone)} removed")


app.command("shell")(shell)


def _on_each(name: str, call: "Callable[[SandboxBackend], Awaitable[T]]") -> list[T]:
    """The results of a call on one backend, or on every backend that this host has; others are named on stderr."""
    from swe_aem.errors import UserError
    from swe_aem.sandbox import SANDBOXES, open_backend

    async def one(candidate: str) -> T:
        async with open_backend(candidate) as backend:
            return await call(backend)

    if name != "all":
        return [asyncio.run(one(name))]
    results = []
    for candidate in SANDBOXES.names:
        try:
            results.append(asyncio.run(one(candidate)))
        except UserError as error:
            tell(f"{candidate} left out: {error}")
        except Exception as error:
            if SANDBOXES.is_builtin(candidate):
                raise
            tell(f"{candidate} left out, its package fails: {error!r}")
    return results
