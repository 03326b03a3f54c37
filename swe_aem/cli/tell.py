"""What a verb says to a person, on stderr; what it was asked for goes to stdout with `typer.echo`."""

import typer


def tell(text: str) -> None:
    """A note: progress, what was left out, where something lies."""
    typer.echo(text, err=True)


def complain(text: object) -> None:
    """What went wrong, as one line that begins with the program's name."""
    tell(f"swe-aem: {' '.join(str(text).split())}")
