"""What a verb says to a person, on stderr; what it was asked for goes to stdout with `typer.echo`."""

import traceback
from pathlib import Path

import typer

from swe_aem.errors import ExtensionFailed

_PACKAGE = Path(__file__).resolve().parents[1]


def tell(text: str) -> None:
    """A note: progress, what was left out, where something lies."""
    typer.echo(text, err=True)


def complain(text: object) -> None:
    """What went wrong, as one line that begins with the program's name."""
    tell(f"swe-aem: {' '.join(str(text).split())}")


def complain_of_extension(error: ExtensionFailed) -> None:
    """The traceback of the user's own code, without the frames that called it, and what it means for the run."""
    cause = error.__cause__
    if cause is not None and (own := cause.__traceback__) is not None:
        while own.tb_next is not None and Path(own.tb_frame.f_code.co_filename).is_relative_to(_PACKAGE):
            own = own.tb_next
        tell("".join(traceback.format_exception(type(cause), cause, own)).rstrip())
    complain(error)
