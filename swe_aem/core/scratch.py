"""Scratch directories of the host, named after the process that made them, so that a killed one's are found."""

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from swe_aem.core.owner import Owner, boot_id
from swe_aem.errors import HostFailed

_NAME = re.compile(r"swe-aem-[a-z]+-(?P<pid>\d+)-(?P<start_ticks>\d+)-(?P<host>.+)-[a-z0-9_]+")

_NAME_WITHOUT_OWNER = re.compile(r"swe-aem-(?:log|git|tree|probe)-[a-z0-9_]{8}")
"""Names that say nothing of the process, as they were given before they did."""
_OLD_S = 7 * 86_400.0
"""Seconds after its last change when a directory with such a name belongs to no run any more."""


@contextmanager
def scratch_directory(purpose: str, parent: Path | None = None) -> Iterator[Path]:
    """A new directory for the length of a `with`; `purpose`, in lower-case letters, is part of its name.

    It lies where temporary files do, or in `parent`, from which what dead processes left is removed first, and may be
    renamed. Raises `HostFailed` where the host cannot make one. What cannot be removed at the end is left to
    `sweep_scratch`.
    """
    if parent is not None:
        sweep_scratch(parent)
    owner = Owner.this_process()
    prefix = f"swe-aem-{purpose}-{owner.pid}-{owner.start_ticks}-{owner.host}-"
    try:
        directory = tempfile.TemporaryDirectory(prefix=prefix, dir=parent, ignore_cleanup_errors=True)
    except OSError as error:
        raise HostFailed(f"this host cannot make a scratch directory: {error}; free some space") from error
    with directory as path:
        yield Path(path)


def sweep_scratch(parent: Path | None = None) -> list[Path]:
    """Remove this user's scratch directories whose process has ended from `parent`, or from where temporary files lie,
    and week-old ones that name no process; returns their paths.

    Raises `HostFailed` where no directory for temporary files can be used.
    """
    try:
        found = sorted((parent or Path(tempfile.gettempdir())).glob("swe-aem-*"))
    except OSError as error:
        raise HostFailed(f"this host's scratch directories cannot be listed: {error}") from error
    gone = [path for path in found if _is_left_over(path)]
    for path in gone:
        shutil.rmtree(path, ignore_errors=True)
    return gone


def _is_left_over(path: Path) -> bool:
    match = _NAME.fullmatch(path.name)
    if match is None and _NAME_WITHOUT_OWNER.fullmatch(path.name) is None:
        return False
    try:
        state = path.lstat()
    except FileNotFoundError:  # its owner removed it meanwhile
        return False
    is_ours = state.st_uid == os.geteuid()
    if match is None:
        return is_ours and time.time() - state.st_mtime > _OLD_S
    pid, ticks = int(match["pid"]), int(match["start_ticks"])
    return is_ours and not Owner(host=match["host"], pid=pid, start_ticks=ticks, boot=boot_id()).alive()
