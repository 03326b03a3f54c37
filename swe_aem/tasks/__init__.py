"""Tasks: readers of data sets, and the bundled set `micro` with the generator that made it.

`load_tasks(source)` reads a set; `docs/tasks.md` lists the sources.
"""

from swe_aem.tasks.load import load_tasks
from swe_aem.tasks.taskset import TaskSet

__all__ = ["TaskSet", "load_tasks"]
