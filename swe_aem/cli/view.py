"""`swe-aem view`: look at runs in a browser."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from swe_aem.cli.tell import tell

app = typer.Typer(rich_markup_mode=None, add_completion=False)
PORT = 8437
"""Where the viewer listens unless it is told otherwise."""
EXPORTED = 200
"""Trajectories of each store that an export has pages of, unless it is told otherwise."""


@app.command(
    epilog="Example: swe-aem view runs --port 0. On another machine: ssh -L 8437:localhost:8437 HOST, then open the "
    "address that is printed there."
)
def view(
    directories: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Runs, or directories with runs below them.")
    ],
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = PORT,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on. Whoever reaches it still needs the token.")
    ] = "127.0.0.1",
    export: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="PATH",
            help="Write pages that open without a server, and end: a folder; or, where PATH ends in .html, the page of "
            "the only run as one file.",
        ),
    ] = None,
    export_trajectories: Annotated[
        int, typer.Option("--export-trajectories", min=0, help="Trajectories of each store that get pages in a folder.")
    ] = EXPORTED,
) -> None:
    """Look at runs in a browser: rollouts, training runs, evaluations, grades; also while they run.

    Directories are searched for runs. The address that is printed holds a token; pages are for whoever has it.
    """
    if export is not None:
        _export(directories, export, export_trajectories)
    else:
        asyncio.run(_serve(directories, host, port))


def _export(directories: Sequence[Path], path: Path, trajectories: int) -> None:
    from swe_aem.view.export import export_folder, export_page
    from swe_aem.view.pages import PAGES
    from swe_aem.view.site import Site

    site = Site(directories, PAGES)
    try:
        if path.suffix == ".html":
            made = export_page(site, path)
        else:
            made = export_folder(site, path, trajectories=trajectories, tell=tell)
    finally:
        site.close()
    for run, count in made.left_out.items():
        tell(f"{count} trajectories of {run} have no page there: --export-trajectories {trajectories} of each store")
    typer.echo(f"{made.path}, {made.pages} pages" if made.pages > 1 else str(made.path))


async def _serve(directories: Sequence[Path], host: str, port: int) -> None:
    from swe_aem.view.pages import PAGES
    from swe_aem.view.server import ViewServer
    from swe_aem.view.site import Site

    site = Site(directories, PAGES)
    async with ViewServer(site, host=host, port=port) as server:
        tell(f"{len(site.runs())} runs. Ctrl-C ends the viewer; runs are not touched.")
        typer.echo(server.url)
        await asyncio.Event().wait()
