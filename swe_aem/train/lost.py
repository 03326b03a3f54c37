"""`RolloutsLost`: the rollouts ended in the middle of what was asked of them, and can be asked again."""

from collections.abc import Callable
from typing import TypeVar

from swe_aem.errors import SweAemError

_T = TypeVar("_T")


class RolloutsLost(SweAemError):
    """Whoever rolled out is gone. Another one resumes from the store when it is asked whether it wants weights."""


def unless_lost(work: Callable[[], _T]) -> _T | None:
    """What `work` returns; None if the rollouts were lost meanwhile."""
    try:
        return work()
    except RolloutsLost:
        return None
