"""What a verb says to a person, on stderr; what it was asked for goes to stdout with `typer.echo`."""

import traceback

import typer

from swe_aem.errors import ExtensionFailed


def tell(text: str) -> None:
    """A note: progress, what was left out, where something lies."""
    typer.echo(text, err=True)


def complain(text: object) -> None:
    """What went wrong, as one line that begins with the program's name."""
    tell(f"swe-aem: {' '.join(str(text).split())}")


def complain_of_extension(error: ExtensionFailed) -> None:
    """The traceback of the user's own code, without the frame that called it, and what it means for the run."""
    cause = error.__cause__
    if cause is not None and cause.__traceback__ is not None:
        own = cause.__traceback__.tb_next or cause.__traceback__
        tell("".join(traceback.format_exception(type(cause), cause, own)).rstrip())
    complain(error)
