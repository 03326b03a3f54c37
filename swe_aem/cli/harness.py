"""`swe-aem harness`: agents made elsewhere, and their environments."""

from typing import Annotated

import typer

from swe_aem.cli.options import complete_harness
from swe_aem.table import table

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    help="List and install agents made elsewhere, e.g. OpenHands.",
)

Pins = Annotated[
    list[str] | None,
    typer.Option(
        "--pin", metavar="PACKAGE==VERSION", help="Another version, e.g. openhands-sdk==1.34.0; repeat for more."
    ),
]


@app.command()
def install(
    agent: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE", help="A bundled harness, or the .py file of one.", autocompletion=complete_harness
        ),
    ],
    pin: Pins = None,
) -> None:
    """Install the environment that a harness runs in.

    Every package has a fixed version. Each choice of versions is an environment of its own; a rollout uses the one
    that its setting `harness.pins` names.

    Example: swe-aem harness install mini-swe-agent
    """
    from swe_aem.harness import install as make
    from swe_aem.harness import read_harness_spec

    typer.echo(make(read_harness_spec(agent), tuple(pin or ())))


@app.command("ls")
def list_harnesses() -> None:
    """List the bundled harnesses, what they need, and their options.

    Example: swe-aem harness ls
    """
    from swe_aem.harness import BUNDLED, installed, read_harness_spec

    rows = []
    for name in BUNDLED:
        harness = read_harness_spec(name)
        state = "installed" if installed(harness) else f"swe-aem harness install {name}"
        options = " ".join(f"{option}={value}" for option, value in harness.options.items())
        needed = (*harness.dependencies, *harness.npm_packages())
        rows.append((name, f"{' '.join(needed)}  [{state}]"))
        rows.append(("", f"options: {options}"))
    for line in table(rows):
        typer.echo(line)
