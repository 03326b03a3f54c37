"""Progress of making tasks, package by package."""

import sys
from typing import TYPE_CHECKING

import typer

from swe_aem.cli.tell import tell

if TYPE_CHECKING:
    from swe_aem.tasks.synthesis.synth import Progress


def progress() -> "Progress":
    """One changing line on a terminal, one line per finished package otherwise."""
    on_terminal = sys.stderr.isatty()

    def line(package: str, done: int, wanted: int) -> None:
        text = f"{package}: {done} of {wanted}"
        if on_terminal:
            typer.echo(f"\r\033[K{text}" + ("\n" if done == wanted else ""), err=True, nl=False)
        elif done == wanted:
            tell(text)

    return line
