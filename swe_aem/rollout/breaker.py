"""`Breaker`, a circuit breaker: aborts a run after so many consecutive infrastructure failures."""

from swe_aem.errors import InfrastructureError, RunAborted


class Breaker:
    """Counts consecutive infrastructure failures of one kind of work."""

    def __init__(self, what: str, limit: int) -> None:
        """`what` names the work behind "attempts to"; the `limit`-th failure in a row aborts the run."""
        self._what = what
        self._limit = limit
        self._in_a_row = 0

    def failed(self, error: InfrastructureError) -> None:
        """Count a failure; raises `RunAborted` at the limit."""
        self._in_a_row += 1
        if self._in_a_row >= self._limit:
            raise RunAborted(
                f"{self._in_a_row} attempts in a row to {self._what} failed, the last one with {describe(error)}. "
                "Fix the cause and repeat the command: finished trajectories are kept"
            ) from error

    def worked(self) -> None:
        """Count a success."""
        self._in_a_row = 0


def describe(error: BaseException) -> str:
    """An error as one phrase: its type and message."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
