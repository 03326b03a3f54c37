"""`run.log`: what a run did and why it failed, in its directory, one line at a time. Standard library only, so that
every package can write to it.

    with run_log(DIR):              # nested ones write into the outermost
        now_about("task-1.0#2")     # what this asyncio task writes from now on is about that attempt
        note("pulled 3 images")     # a line

Python's `logging` from level WARNING on, warnings, exceptions and signals that end the process arrive by themselves.
"""

from swe_aem.runlog.appended import AppendedFile
from swe_aem.runlog.log import (
    FILE,
    RunLog,
    forwarded_log,
    holds_only_log,
    is_log,
    keep_in,
    move_log,
    note,
    now_about,
    run_log,
    show,
    tell,
)
from swe_aem.runlog.secrets import known_secret, masked, without_keys
from swe_aem.runlog.text import traceback_of, utc_now

__all__ = [
    "FILE",
    "AppendedFile",
    "RunLog",
    "forwarded_log",
    "holds_only_log",
    "is_log",
    "keep_in",
    "known_secret",
    "masked",
    "move_log",
    "note",
    "now_about",
    "run_log",
    "show",
    "tell",
    "traceback_of",
    "utc_now",
    "without_keys",
]
