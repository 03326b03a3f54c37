"""`Spending`: what a run's requests have used, and what its budget still allows.

A budget is spent on whole trajectories, because one that is cut off says nothing and is paid for again:

- A trajectory starts only while the budget is enough for what running ones are expected to need yet, and for it. What a
  trajectory needs is learnt from those that have ended: as much as the dearest, and a share more while few have ended.
  Before the first has ended it is the most that the limits of turns and context allow, and of money one runs alone
  until a token's price is known.
- What runs may use the budget to its end. From then on no request is sent; trajectories that still needed one are not
  stored, and a rerun rolls them out again. What is graded then is graded to its end.

So more than the budget is used only by requests that were in flight when it was used up: one response of each running
agent at most, and few run by then.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from swe_aem.core import TrajectoryKey, Usage
from swe_aem.errors import BudgetSpent, UserError
from swe_aem.rollout.config import BudgetConfig


@dataclass
class Used:
    """Tokens and money."""

    tokens: int = 0
    """Prompt and sampled tokens of every request: a prompt counts again each time, as APIs bill it."""
    usd: float | None = None
    """None where no request has said what it costs."""

    def add(self, tokens: int, usd: float | None) -> None:
        """Count more."""
        self.tokens += tokens
        if usd is not None:
            self.usd = (self.usd or 0.0) + usd


@dataclass
class Ended:
    """What trajectories that have ended took."""

    count: int = 0
    dearest: Used = field(default_factory=Used)
    """The most tokens that one took, and the most money."""

    def add(self, used: Used) -> None:
        """Take one more."""
        self.count += 1
        self.dearest.tokens = max(self.dearest.tokens, used.tokens)
        if used.usd is not None:
            self.dearest.usd = max(self.dearest.usd or 0.0, used.usd)


class _Resource(NamedTuple):
    """Tokens or money, as the rule for starting sees it."""

    left: float
    used: list[float]
    """By each running trajectory so far."""
    dearest: float
    """The most that one took which has ended."""
    worst: float | None
    """The most that the limits allow; None where that is not known."""


class Spending:
    """What one run has used and may use. The run's trajectories share it."""

    def __init__(
        self,
        budget: BudgetConfig | None = None,
        *,
        earlier: Used | None = None,
        ended: Ended | None = None,
        most_tokens: int = 0,
    ) -> None:
        """`earlier` is what was used on the store before, `ended` what its trajectories took; `most_tokens` is the most
        that the limits allow a trajectory to use."""
        self.budget = budget or BudgetConfig()
        self.used = earlier or Used()
        self._most_tokens = most_tokens
        self._running: dict[TrajectoryKey, Used] = {}
        self._ended = ended or Ended()
        self._dearest_token_usd: float | None = None
        self._changed = asyncio.Event()

    @property
    def is_limited(self) -> bool:
        """Is there a budget?"""
        return self.budget != BudgetConfig()

    @property
    def tokens_left(self) -> int | None:
        """Tokens until the budget is used up; None without one."""
        return None if self.budget.tokens is None else max(0, self.budget.tokens - self.used.tokens)

    @property
    def usd_left(self) -> float | None:
        """US dollars until the budget is used up; None without one."""
        return None if self.budget.usd is None else max(0.0, self.budget.usd - (self.used.usd or 0.0))

    @property
    def spent(self) -> bool:
        """Is the budget used up?"""
        return self.tokens_left == 0 or self.usd_left == 0

    async def start(self, key: TrajectoryKey) -> bool:
        """Wait until the budget has room for a trajectory, and count it as running until `end`. False if it never will:
        nothing runs, and what is left is less than one needs."""
        while not self._has_room():
            if not self._running:
                return False
            self._changed.clear()
            await self._changed.wait()
        self._running[key] = Used()
        return True

    def again(self, key: TrajectoryKey) -> None:
        """An attempt of the trajectory failed; what it used is used, and says nothing of what the next one needs."""
        if key in self._running:
            self._running[key] = Used()

    def end(self, key: TrajectoryKey, *, finished: bool = False) -> None:
        """The trajectory sends no more requests; `finished`: its agent came to an end. Only the first call counts."""
        used = self._running.pop(key, None)
        if used is not None and finished:
            self._ended.add(used)
        self._changed.set()

    def require_left(self) -> None:
        """A request is about to be sent: raises `BudgetSpent` if the budget is used up."""
        if self.spent:
            raise BudgetSpent("the budget is used up")

    def count(self, key: TrajectoryKey, usage: Usage) -> None:
        """A request of a trajectory was answered. Raises `UserError` if there is a budget in money and the response has
        no cost."""
        tokens, usd = usage.tokens, usage.cost_usd
        self.count_lost(key, usage)
        if usd is not None and tokens:
            self._dearest_token_usd = max(self._dearest_token_usd or 0.0, usd / tokens)
        elif usd is None:
            self.require_cost(known=False)

    def count_lost(self, key: TrajectoryKey, usage: Usage) -> None:
        """A request of a trajectory came to no answer, and was paid for all the same. Its cost may be unknown."""
        self.used.add(usage.tokens, usage.cost_usd)
        if (running := self._running.get(key)) is not None:
            running.add(usage.tokens, usage.cost_usd)
        self._changed.set()

    def require_cost(self, *, known: bool) -> None:
        """Raises `UserError` if there is a budget in money for a policy whose responses have no known cost."""
        if self.budget.usd is not None and not known:
            raise UserError(
                "budget.usd needs a policy whose responses have a cost: give the prices of a chat API (policy.price), "
                "or a budget in tokens (--budget-tokens)"
            )

    def _has_room(self) -> bool:
        if not self.is_limited:
            return True
        if self.spent:
            return False
        return all(_has_room(one, self._ended.count) for one in self._resources())

    def _resources(self) -> Iterator[_Resource]:
        running = self._running.values()
        if self.tokens_left is not None:
            used = [float(one.tokens) for one in running]
            yield _Resource(self.tokens_left, used, self._ended.dearest.tokens, self._most_tokens)
        if self.usd_left is not None:
            price = self._dearest_token_usd
            worst = None if price is None else price * self._most_tokens
            yield _Resource(self.usd_left, [one.usd or 0.0 for one in running], self._ended.dearest.usd or 0.0, worst)


def _has_room(one: _Resource, ended: int) -> bool:
    """Is enough left for what running trajectories need yet, and for another one?"""
    if not one.used:
        return one.left >= one.dearest
    # The most of n draws is below the most of all; (1 + 1/n) times it is not, on average (the German tank problem).
    needed = one.worst if not ended else one.dearest * (1 + 1 / ended)
    if needed is None:
        return False
    # One that has used more than any before it may need as much again.
    missing = sum(needed - used if used < needed else used for used in one.used)
    return one.left >= missing + needed
