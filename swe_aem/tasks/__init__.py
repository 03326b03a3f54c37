"""Tasks: readers of data sets, and the bundled set `micro` with the generator that made it.

`load_tasks(source)` reads a set; `docs/tasks.md` lists the sources. What other packages use is imported from here;
`swe_aem.tasks.select`, `.decontaminate`, `.pypi` and `.synthesis` serve single commands and are imported by those.
"""

from swe_aem.tasks.families.family import FAMILIES, Family
from swe_aem.tasks.families.fields import Fields
from swe_aem.tasks.families.git import git_task
from swe_aem.tasks.families.log_parsers import LogParser
from swe_aem.tasks.families.reading import Reading
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
    "FAMILIES",
    "LOCK_FILE",
    "WEAK_SHARE",
    "Family",
    "Fields",
    "LockEntry",
    "LockKey",
    "LockPolicy",
    "LogParser",
    "Reading",
    "TaskSet",
    "apply_lock",
    "bundled",
    "bundled_sets",
    "find_source",
    "git_task",
    "load_tasks",
    "lock_text",
    "passing_shares",
    "read_lock",
    "record_digest",
]
