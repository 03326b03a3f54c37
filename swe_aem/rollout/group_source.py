"""`GroupSource`: gives a run its groups one by one, while it works."""

from collections import deque
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from swe_aem.rollout.group import RolloutGroup


@runtime_checkable
class GroupSource(Protocol):
    """Where a run's groups come from, and who is told how they fare. Called in the run's event loop."""

    @property
    def tasks(self) -> int:
        """How many tasks are rolled out at once, at most."""
        ...

    async def next(self) -> RolloutGroup | None:
        """Wait until another group may begin; None: none ever will. It lacks at least one trajectory."""
        ...

    def begun(self, group: RolloutGroup) -> None:
        """The group's first trajectory starts, at the place that was free."""
        ...

    def ended(self, group: RolloutGroup) -> None:
        """Every trajectory that the group gets is in the store."""
        ...

    def stuck(self) -> None:
        """Nothing runs, and failures are stored only once another trajectory works: `next` must not wait for a group to
        end. If none may begin, it returns None, and the run says what failed."""
        ...


class GivenGroups:
    """A `GroupSource` of groups that are known when the run begins."""

    def __init__(self, groups: Sequence[RolloutGroup]) -> None:
        self._left = deque(group for group in groups if group.missing)
        self._tasks = len({group.record.task.id for group in self._left})

    @property
    def tasks(self) -> int:
        """How many tasks have something to roll out."""
        return self._tasks

    async def next(self) -> RolloutGroup | None:
        """The next group that lacks something."""
        return self._left.popleft() if self._left else None

    def begun(self, group: RolloutGroup) -> None:
        """Nobody asks."""

    def ended(self, group: RolloutGroup) -> None:
        """Nobody asks."""

    def stuck(self) -> None:
        """Nothing: it never waits."""
