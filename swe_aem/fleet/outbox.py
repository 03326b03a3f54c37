"""`Outbox`: what the trajectories of an agent tell their run, kept until it has arrived there."""

import copy
import itertools
import time
from collections import deque

from swe_aem.core import TrajectoryKey, Usage
from swe_aem.errors import InfrastructureError, PolicyError
from swe_aem.fleet.messages import Event, Kind, Report
from swe_aem.rollout import BudgetConfig
from swe_aem.rollout.breaker import Breaker, FirstAnswer, describe
from swe_aem.rollout.roller import RunState
from swe_aem.rollout.spending import Spending
from swe_aem.store import FailedAttempt


class Outbox:
    """Numbered events, and the `RunState` that makes them in place of keeping counts. It is a `Watcher` too."""

    def __init__(self, budget: BudgetConfig) -> None:
        self._events: deque[Event] = deque()
        self._numbers = itertools.count(1)
        self._rollout = 0
        self._budget = budget
        self.spending = _ToldSpending(self, budget)

    def of_rollout(self, number: int) -> "Outbox":
        """The same events, for what the trajectories of one of several rollouts have to tell."""
        own = copy.copy(self)
        own._rollout = number
        own.spending = _ToldSpending(own, self._budget)
        return own

    def run_state(self) -> RunState:
        """The run as trajectories of this host see it."""
        return RunState(
            watcher=self,
            agent_breaker=_ToldBreaker(self, "agent_failed", "agent_worked"),
            grading_breaker=_ToldBreaker(self, "grading_failed", "grading_worked"),
            first_answer=_ToldFirstAnswer(self),
            spending=self.spending,
        )

    def add(self, kind: Kind, *arguments: object) -> None:
        """Tell the run something."""
        self._events.append(Event(next(self._numbers), kind, arguments, self._rollout))

    def arrived(self, number: int) -> None:
        """Events up to this one have arrived."""
        while self._events and self._events[0].number <= number:
            self._events.popleft()

    @property
    def last(self) -> int:
        """Number of the last event; 0 if all have arrived."""
        return self._events[-1].number if self._events else 0

    def report(self, broken_tasks: bytes | None = None, places: int | None = None) -> Report:
        """Events that have not arrived as far as is known here; see `Report` for the rest."""
        return Report(tuple(self._events), time.monotonic(), broken_tasks, places)

    def phase(self, id: str, name: str) -> None:
        """The trajectory enters a phase."""
        self.add("phase", id, name)

    def phase_ended(self, key: TrajectoryKey, attempt: int, name: str, began_s: float, seconds: float) -> None:
        """A phase of an attempt has ended, which began at `began_s` on this host's monotonic clock."""
        self.add("phase_ended", key, attempt, name, began_s, seconds)

    def failed(self, failed: FailedAttempt) -> None:
        """An attempt failed."""
        self.add("failed", failed)

    def tell(self, text: str) -> None:
        """Something that a person should know."""
        self.add("tell", text)


class _ToldBreaker(Breaker):
    """A breaker whose failures are counted where the run is."""

    def __init__(self, outbox: Outbox, failed: Kind, worked: Kind) -> None:
        self._outbox = outbox
        self._failed: Kind = failed
        self._worked: Kind = worked

    def failed(self, error: InfrastructureError, task_id: str) -> None:
        self._outbox.add(self._failed, describe(error), task_id)

    def worked(self) -> None:
        self._outbox.add(self._worked)


class _ToldFirstAnswer(FirstAnswer):
    """Answers of the policy are counted where the run is; the first one of this host is told of."""

    def __init__(self, outbox: Outbox) -> None:
        super().__init__()
        self._outbox = outbox

    def came(self) -> None:
        if not self.known:
            super().came()
            self._outbox.add("answered")

    def failed(self, error: PolicyError) -> None:
        if not self.known:
            self._outbox.add("unanswered", describe(error))


class _ToldSpending(Spending):
    """What requests use is added up where the run is, which says when the budget is used up."""

    def __init__(self, outbox: Outbox, budget: BudgetConfig) -> None:
        super().__init__(budget)
        self._outbox = outbox
        self.used_up = False
        """Is the run's budget used up?"""

    @property
    def spent(self) -> bool:
        return self.used_up

    def count(self, key: TrajectoryKey, usage: Usage) -> None:
        self._outbox.add("used", key, usage)
        if usage.cost_usd is None:
            self.require_cost(known=False)

    def count_lost(self, key: TrajectoryKey, usage: Usage) -> None:
        self._outbox.add("used_in_vain", key, usage)

    def again(self, key: TrajectoryKey) -> None:
        self._outbox.add("again", key)

    def end(self, key: TrajectoryKey, *, finished: bool = False) -> None:
        self._outbox.add("agent_ended", key, finished)
