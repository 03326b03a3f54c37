"""`swe-aem cluster`: what the hosts of a Ray cluster have for rollouts."""

import asyncio
from typing import Annotated

import typer

from swe_aem.cli.tell import tell
from swe_aem.table import table

_HEAD = ("host", "id", "places", "free", "processors", "memory", "state")

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
    """List the hosts of a cluster, the places that they have for agents, which runs have them, and what keeps a host
    from rolling out.

    Exit code 1 if none could. Places and sandboxes are those of a rollout with the default settings.

    Example: swe-aem cluster status --cluster 10.0.0.1:6379
    """
    from swe_aem.fleet import NO_HOSTS, engine_at
    from swe_aem.fleet.status import look_at_hosts
    from swe_aem.rollout import RolloutConfig

    hosts = asyncio.run(look_at_hosts(engine_at(cluster), RolloutConfig()))
    if not hosts:
        tell(NO_HOSTS)
        raise typer.Exit(1)
    cells = []
    for one in sorted(hosts, key=lambda one: one.host.name):
        size = ("-",) * 4
        if one.size is not None:
            size = (one.places, one.free, one.size.processors, f"{one.size.memory_bytes / 2**30:.0f} GiB")
        state = one.problem or "; ".join(map(str, one.shares)) or "ready"
        cells.append((one.host.name, one.host.id[:8], *size, state))
    for line in table(cells, head=_HEAD, align="<<>>>><"):
        typer.echo(line)
    ready = [one for one in hosts if not one.problem and one.size is not None]
    places, free = sum(one.places for one in ready), sum(one.free for one in ready)
    tell(f"{len(ready)} of {len(hosts)} hosts can roll out, {free} of {places} places are free")
    raise typer.Exit(0 if ready else 1)
