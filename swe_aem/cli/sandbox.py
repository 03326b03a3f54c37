"""`swe-aem sandbox`: see and remove sandboxes of any run, or open one and look around."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from swe_aem.cli.sandbox_shell import shell

if TYPE_CHECKING:
    from swe_aem.core import SandboxBackend

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List, prune and enter sandboxes.")

Which = Annotated[str, typer.Option("--sandbox", help="bubblewrap, docker, or all that this host has.")]


@app.command("ls")
def list_sandboxes(
    sandbox: Which = "all", as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False
) -> None:
    """List live sandboxes of all runs on this host and engine."""
    rows = [row for rows in _on_each(sandbox, lambda backend: backend.ls()) for row in rows]
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row.model_dump()))
        return
    for row in rows:
        state = "orphan" if not row.owner_alive else "expired" if row.expired else "live"
        labels = " ".join(f"{key}={value}" for key, value in sorted(row.labels.items()))
        typer.echo(f"{row.id:24} {row.backend:10} {state:7} {row.age_s:7.0f} s  {row.image}  {labels}")
    typer.echo(f"{len(rows)} sandboxes", err=True)


@app.command()
def prune(
    sandbox: Which = "all",
    everything: Annotated[
        bool, typer.Option("--all", help="Also those of runs that are still alive. They lose their sandboxes.")
    ] = False,
) -> None:
    """Remove sandboxes whose owner has died or whose time is over. Nothing without our labels is touched."""
    gone = [id for ids in _on_each(sandbox, lambda backend: backend.prune(everything=everything)) for id in ids]
    for id in gone:
        typer.echo(id)
    typer.echo(f"{len(gone)} removed", err=True)


app.command("shell")(shell)


def _on_each(name: str, call: "Callable[[SandboxBackend], Awaitable[T]]") -> list[T]:
    """Results of a call on one backend, or on every backend that this host has (others are named on stderr)."""
    from swe_aem.errors import UserError
    from swe_aem.sandbox import BACKENDS, open_backend

    async def one(candidate: str) -> T:
        return await call(open_backend(candidate))

    if name != "all":
        return [asyncio.run(one(name))]
    results = []
    for candidate in BACKENDS:
        try:
            results.append(asyncio.run(one(candidate)))
        except UserError as error:
            typer.echo(f"{candidate} left out: {error}", err=True)
    return results
