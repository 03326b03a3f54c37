"""What a verb says to a person, on stderr; what it was asked for goes to stdout with `typer.echo`."""

import logging
import traceback
from pathlib import Path

from swe_aem import runlog
from swe_aem.errors import ExtensionFailed

_PACKAGE = Path(__file__).resolve().parents[1]


def tell(text: str) -> None:
    """A note: progress, what was left out, where something lies. It goes into the run's log too."""
    runlog.tell(text)


def complain(text: object) -> None:
    """What went wrong, as one line that begins with the program's name. The run's log has it with the traceback of an
    exception."""
    trace = runlog.traceback_of(text) if isinstance(text, BaseException) else ""
    runlog.tell(f"swe-aem: {' '.join(str(text).split())}", level=logging.ERROR, log=trace)


def complain_of_extension(error: ExtensionFailed) -> None:
    """The traceback of the user's own code, without the frames that called it, and what it means for the run."""
    cause = error.__cause__
    if cause is not None and (own := cause.__traceback__) is not None:
        while own.tb_next is not None and Path(own.tb_frame.f_code.co_filename).is_relative_to(_PACKAGE):
            own = own.tb_next
        tell("".join(traceback.format_exception(type(cause), cause, own)).rstrip())
    complain(error)
