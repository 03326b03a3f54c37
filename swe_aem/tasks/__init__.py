"""Tasks: readers of data sets, and the bundled set `micro` with the generator that made it.

`load_tasks(source)` reads a set; `docs/tasks.md` lists the sources. What other packages use is imported from here;
`swe_aem.tasks.select`, `.decontaminate`, `.pypi` and `.synthesis` serve single commands and are imported by those.
"""

from swe_aem.tasks.load import bundled, bundled_sets, find_source, load_tasks
from swe_aem.tasks.lock import (
    LOCK_FILE,
    WEAK_SHARE,
    LockEntry,
    LockKey,
    LockPolicy,
    apply_lock,
    lock_text,
    passing_shares,
    read_lock,
    record_digest,
)
from swe_aem.tasks.taskset import TaskSet

__all__ = [
    "LOCK_FILE",
    "WEAK_SHARE",
    "LockEntry",
    "LockKey",
    "LockPolicy",
    "TaskSet",
    "apply_lock",
    "bundled",
    "bundled_sets",
    "find_source",
    "load_tasks",
    "lock_text",
    "passing_shares",
    "read_lock",
    "record_digest",
]
