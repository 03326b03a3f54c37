"""`Roller`: rolls out one trajectory, wherever its sandboxes are, and hands it over as a sealed line of the store.

What goes in and what comes out is plain frozen data, so that a roller may work in another process or on another host:
`TaskRecord` and numbers in, `Done` out. What has to be known before that, such as failures that count for the whole
run, goes through `RunState`. `LocalRoller` (`local_roller.py`) works in this process.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from swe_aem.core import TaskRecord, Trajectory, TrajectoryKey
from swe_aem.core.base import Frozen
from swe_aem.errors import ExtensionFailed
from swe_aem.rollout.breaker import Breaker, FirstAnswer
from swe_aem.rollout.spending import Spending
from swe_aem.store import FailedAttempt, TrajectoryCounters, count_trajectory, seal_trajectory


class Done(Frozen):
    """A terminal trajectory: its line, and what the run needs to know without parsing that."""

    line: bytes
    """The line that the store takes as it is, reward included."""
    log: bytes = b""
    """The kept log of its evaluation, if there was one."""
    counters: TrajectoryCounters
    settled: bool = True
    """May it be stored at once? Not a failure for which the infrastructure was not seen to work since."""

    @staticmethod
    def of(trajectory: Trajectory, log: bytes = b"", *, settled: bool = True) -> "Done":
        """Seal a terminal trajectory: some 30 ms of processor time for 32,000 tokens."""
        return Done(line=seal_trajectory(trajectory), log=log, counters=count_trajectory(trajectory), settled=settled)


class RewardFailed(ExtensionFailed):
    """A reward function failed: the line of the terminal trajectory, which has no reward, and its log."""

    def __init__(self, message: str, line: bytes = b"", log: bytes = b"") -> None:
        super().__init__(message)
        self.line, self.log = line, log


class Watcher(Protocol):
    """Is told how trajectories fare. `RunProgress` is one."""

    def phase(self, id: str, name: str) -> None:
        """The trajectory enters a phase."""
        ...

    def phase_ended(self, key: TrajectoryKey, attempt: int, name: str, began_s: float, seconds: float) -> None:
        """A phase of an attempt has ended, which began at `began_s` on this host's monotonic clock."""
        ...

    def failed(self, failed: FailedAttempt) -> None:
        """An attempt failed."""
        ...

    def tell(self, text: str) -> None:
        """Something that a person should know."""
        ...


@dataclass(frozen=True)
class RunState:
    """What all trajectories of a run share, wherever they are rolled out: whom they tell, and what may end them all."""

    watcher: Watcher
    agent_breaker: Breaker
    grading_breaker: Breaker
    first_answer: FirstAnswer
    spending: Spending
    terminal: Callable[[TrajectoryKey], None] = lambda key: None
    """Is told that a trajectory has come to its end and will be stored once it has its reward."""
    nothing_works: Callable[[], None] = lambda: None
    """Is told, again and again, that nothing can run: a run that is to stop has nothing to wait for."""


class Place(Protocol):
    """Where the agent of one trajectory may live."""

    def release(self) -> None:
        """The agent needs it no more: another one may start. Only the first call counts."""
        ...


class StartingGroup(Protocol):
    """A group whose trajectories are being started, beside those of other groups."""

    def started(self) -> None:
        """All have started that will. Only the first call counts."""
        ...


class Roller(Protocol):
    """Rolls out trajectories, as many at once as it has places."""

    def open(self, run: RunState) -> AbstractAsyncContextManager[None]:
        """What rolling out needs, open for the length of the block; nothing is left when it ends. Once."""
        ...

    async def admit(self, record: TaskRecord, count: int) -> StartingGroup | None:
        """Wait until a group of so many trajectories of the task may be started beside others; None: groups are started
        one after the other."""
        ...

    async def place(self, record: TaskRecord, group: StartingGroup | None = None) -> Place:
        """Wait for a place for an agent that works on the task, of a group if that was admitted."""
        ...

    async def roll(self, record: TaskRecord, sample: int, place: Place) -> Done:
        """Roll out one trajectory, with retries, to its end; releases the place once its agent has finished and its
        patch is being graded. The caller releases it where this ends earlier. A cancelled call closes its sandboxes.

        Raises `RewardFailed`; `BudgetSpent` where the budget cut it off; `TaskUnusable` for a task that cannot be
        rolled out here; `UserError`, `ExtensionFailed`, `RunAborted` and bugs, which end the run.
        """
        ...
