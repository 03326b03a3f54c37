"""`Failures`: the failed attempts of one trajectory, or of grading one prediction."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from swe_aem.core import TrajectoryKey
from swe_aem.errors import BudgetSpent, ExtensionFailed, InfrastructureError, RunAborted, SweAemError, UserError
from swe_aem.rollout.attribution import Finding
from swe_aem.rollout.breaker import describe
from swe_aem.runlog import now_about
from swe_aem.store import Blame, FailedAttempt, failed_attempt

Part = Literal["agent", "grading"]
_GRADING = ("grade_queue", "apply", "grade")
"""Phases in which a patch is graded."""


@dataclass
class Failures:
    """Counts, remembers and tells of them."""

    key: TrajectoryKey
    tell: Callable[[FailedAttempt], None]
    """Is told of each."""
    said: list[str] = field(default_factory=list)
    """Each infrastructure failure as one phrase."""
    since_s: float = math.inf
    """When the first of those came, on the monotonic clock."""
    phase: str = "prepare"
    """What is being done."""
    _recorded: BaseException | None = None

    def __post_init__(self) -> None:
        now_about(self.attempt)

    @property
    def attempt(self) -> str:
        """The attempt that runs, as lines of the log name it."""
        return f"{self.key}#{len(self.said) + 1}"

    def note(self, part: Part, error: InfrastructureError, finding: Finding | None = None) -> None:
        """Record an infrastructure failure, with what else is known of it. The next attempt begins."""
        why = describe(error)
        if finding is not None and finding.why != why:
            why = f"{why} ({finding.why})"
        self._record(part, error, "infrastructure", finding)
        self.since_s = min(self.since_s, time.monotonic())
        self.said.append(f"{part}: {why}")
        now_about(self.attempt)

    def convicted(self, part: Part, error: InfrastructureError, finding: Finding) -> None:
        """Record a failure that is the policy's doing."""
        self._record(part, error, "policy", finding)

    @contextmanager
    def surfacing(self) -> Iterator[None]:
        """Record what ends the run with this attempt: an exception that leaves the body."""
        try:
            yield
        except BudgetSpent:
            raise
        except Exception as error:
            cause = error.__cause__ if isinstance(error, RunAborted) and error.__cause__ is not None else error
            if cause is not self._recorded:
                self._record("grading" if self.phase in _GRADING else "agent", cause, _blame(cause))
            raise

    def _record(self, part: Part, error: BaseException, blame: Blame, finding: Finding | None = None) -> None:
        self._recorded = error
        why = finding.why if finding is not None and finding.why != describe(error) else ""
        self.tell(
            failed_attempt(
                error,
                task_id=self.key.task_id,
                sample=self.key.sample,
                attempt=len(self.said) + 1,
                part=part,
                phase=self.phase,
                blame=blame,
                finding=why,
            )
        )


def _blame(error: BaseException) -> Blame:
    """Whose failure an exception is that ends a run."""
    if isinstance(error, ExtensionFailed):
        return "extension"
    if isinstance(error, UserError):
        return "input"
    return "infrastructure" if isinstance(error, SweAemError) else "bug"
