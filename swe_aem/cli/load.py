"""Loading the task set of a command, with what a person should know about it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from swe_aem.cli.tell import tell

if TYPE_CHECKING:
    from swe_aem.tasks import TaskSet


def load_and_tell(
    source: str,
    *,
    split: str | None = None,
    ids: Sequence[str] | None = None,
    limit: int | None = None,
    family: Any = None,
) -> "TaskSet":
    """The tasks of `source`, as `load_tasks` reads them; its notes go to stderr, such as which rows are left out."""
    from swe_aem.tasks import load_tasks

    tasks = load_tasks(source, split=split, ids=ids, limit=limit, family=family)
    for note in tasks.notes:
        tell(note)
    return tasks
