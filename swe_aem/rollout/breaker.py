"""Circuit breakers: `Breaker` aborts a run after so many consecutive infrastructure failures, `FirstAnswer` one whose
policy has not answered at all.
"""

from swe_aem.errors import InfrastructureError, PolicyError, RunAborted

_TASKS = 3
"""So many tasks must be among the failures in a row: those of one row of a data set are its own."""
_UNANSWERED = 2
"""So many requests must fail before the first answer: one alone may be chance."""


class Breaker:
    """Counts consecutive infrastructure failures of one kind of work."""

    def __init__(self, what: str, limit: int, *, tasks: int = 1) -> None:
        """`what` names the work behind "attempts to". The `limit`-th failure in a row aborts the run, if failures of
        enough tasks are among them; `tasks` is how many the run has."""
        self._what = what
        self._limit = limit
        self._enough_tasks = min(_TASKS, tasks)
        self._in_a_row = 0
        self._tasks: set[str] = set()

    def failed(self, error: InfrastructureError, task_id: str) -> None:
        """Count a failure of a task; raises `RunAborted` at the limit."""
        self._in_a_row += 1
        self._tasks.add(task_id)
        if self._in_a_row >= self._limit and len(self._tasks) >= self._enough_tasks:
            raise RunAborted(
                f"{self._in_a_row} attempts in a row to {self._what} failed, the last one with {describe(error)}. "
                "Fix the cause and repeat the command: finished trajectories are kept"
            ) from error

    def worked(self) -> None:
        """Count a success."""
        self._in_a_row = 0
        self._tasks.clear()


class FirstAnswer:
    """Aborts a run whose policy fails before it has answered anything: what never worked is not waited for."""

    def __init__(self, *, known: bool = False) -> None:
        """`known`: has the policy answered in an earlier process?"""
        self._known = known
        self._failures = 0

    @property
    def known(self) -> bool:
        """Has the policy answered a request, in this process or an earlier one?"""
        return self._known

    def came(self) -> None:
        """The policy answered a request."""
        self._known = True

    def failed(self, error: PolicyError) -> None:
        """A request failed; raises `RunAborted` if none was ever answered and it is not the first one."""
        self._failures += not self._known
        if self._failures >= _UNANSWERED:
            raise RunAborted(
                f"the policy has answered no request, and {self._failures} failed, the last one with "
                f"{describe(error)}. Fix the cause and repeat the command"
            ) from error


def describe(error: BaseException) -> str:
    """An error as one phrase: its type and message."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
