"""`swe-aem harness`: agents of other people, and their environments."""

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List and install agents of other people.")

Pins = Annotated[
    list[str] | None,
    typer.Option("--pin", help="A package in another version, e.g. openhands-sdk==1.34.0; may be given several times."),
]


@app.command()
def install(
    agent: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A bundled harness, or the .py file of one.")],
    pin: Pins = None,
) -> None:
    """Make the environment that a harness runs in, with every package at a fixed version.

    Each choice of versions is an environment of its own; a rollout takes the one that its `harness.pins` name.

    Example: swe-aem harness install mini-swe-agent
    """
    from swe_aem.harness import read_harness_spec
    from swe_aem.harness.environment import install as make

    typer.echo(make(read_harness_spec(agent), tuple(pin or ())))


@app.command("ls")
def list_harnesses() -> None:
    """List the bundled harnesses: what they need, whether it is installed, and their options."""
    from swe_aem.harness import read_harness_spec
    from swe_aem.harness.environment import installed
    from swe_aem.harness.spec import BUNDLED

    for name in BUNDLED:
        recipe = read_harness_spec(name)
        state = "installed" if installed(recipe) else f"swe-aem harness install {name}"
        options = " ".join(f"{option}={value}" for option, value in recipe.options.items())
        typer.echo(f"{name:16} {' '.join(recipe.dependencies)}  [{state}]\n{'':16} options: {options}")
