"""`swe-aem cluster`: what the hosts of a Ray cluster have for rollouts."""

import asyncio
from typing import Annotated

import typer

from swe_aem.cli.tell import tell
from swe_aem.table import table

_HEAD = ("host", "id", "places", "processors", "memory", "state")

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, add_completion=False, help="Look at the hosts of a Ray cluster."
)


@app.callback()
def _group() -> None:
    """Without it typer makes the only command the verb itself."""


@app.command()
def status(
    cluster: Annotated[
        str, typer.Option("--cluster", metavar="auto|HOST:PORT", help="The cluster's head. [default: auto]")
    ] = "auto",
) -> None:
    """List the hosts of a cluster, the places that they have for agents, and what keeps one from rolling out.

    Exit code 1 if none could. Places and sandboxes are those of a rollout with the default settings.

    Example: swe-aem cluster status --cluster 10.0.0.1:6379
    """
    from swe_aem.fleet import engine_at
    from swe_aem.fleet.status import look_at_hosts
    from swe_aem.rollout import RolloutConfig

    hosts = asyncio.run(look_at_hosts(engine_at(cluster), RolloutConfig()))
    cells = []
    for one in sorted(hosts, key=lambda one: one.host.name):
        size = ("-",) * 3
        if one.size is not None:
            size = (one.size.places, one.size.processors, f"{one.size.memory_bytes / 2**30:.0f} GiB")
        cells.append((one.host.name, one.host.id[:8], *size, one.problem or "ready"))
    for line in table(cells, head=_HEAD, align="<<>>><"):
        typer.echo(line)
    ready = [one for one in hosts if not one.problem and one.size is not None]
    tell(f"{len(ready)} of {len(hosts)} hosts can roll out, {sum(one.size.places for one in ready if one.size)} places")
    raise typer.Exit(0 if ready else 1)
