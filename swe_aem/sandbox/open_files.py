"""The limit of open files and sockets of this process: sandboxes, their channels and a policy's connections count."""

import resource

from swe_aem.errors import UserError

OTHER_FILES = 256
"""Open files of a process that has no sandbox: libraries, stores, an engine's connections."""
FILES_PER_TRAJECTORY = 8
"""Open files per trajectory under way: its sandbox, up to three of its grading, its policy's connection; some while
these start."""
LEAST_FILES_PER_TRAJECTORY = 2
"""Its sandbox and that of its grading, whatever else."""
MOST_FILES = 1 << 20
"""More helps nobody, and some programs visit every possible descriptor."""


def raise_limit() -> int:
    """Raise the soft limit to the hard one (1,048,576 at most) if it is lower; returns the soft limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return MOST_FILES if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def require(concurrency: int) -> None:
    """Raise `UserError` if so many trajectories at once cannot be under way."""
    if raise_limit() < LEAST_FILES_PER_TRAJECTORY * concurrency and (why := shortage(concurrency)) is not None:
        raise UserError(why)


def shortage(concurrency: int) -> str | None:
    """One line if the limit is too low for so many trajectories at once, None if it is not."""
    limit, needed = raise_limit(), OTHER_FILES + FILES_PER_TRAJECTORY * concurrency
    if limit >= needed:
        return None
    most = max(1, (limit - OTHER_FILES) // FILES_PER_TRAJECTORY)
    return (
        f"this process may open {limit} files at most, and --concurrency {concurrency} may need {needed}: "
        f"raise the hard limit (`ulimit -Hn {needed}` as root), or use --concurrency {most}"
    )
