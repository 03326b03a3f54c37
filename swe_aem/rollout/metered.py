"""`metered`: a policy whose every request is counted, and refused once the budget is used up.

It stands between an agent and its policy, for one trajectory, so that no agent has to know of budgets, and none can
count the time of a request as its own. What an own policy raises is told apart here too: its own exception ends the
run, and is not tried again.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from swe_aem.core import (
    AnyPolicy,
    ChatCompletion,
    ChatPolicy,
    Completion,
    Policy,
    SamplingParams,
    TrajectoryKey,
    Usage,
    is_chat,
    unavailable_reason,
)
from swe_aem.errors import ExtensionFailed, PolicyError, SweAemError
from swe_aem.policy import AnswersLost, ContextOverflow
from swe_aem.rollout.agent_clock import AgentClock
from swe_aem.rollout.breaker import FirstAnswer, describe
from swe_aem.rollout.spending import Spending


def metered(
    policy: AnyPolicy,
    key: TrajectoryKey,
    spending: Spending,
    first: FirstAnswer,
    clock: AgentClock,
    *,
    own: str | None = None,
) -> AnyPolicy:
    """The policy of one trajectory, with its requests counted, during which `clock` stands; `own` is its name if a user
    brought it.

    Raises `UserError` if there is a budget in money and its responses have no cost.
    """
    if is_chat(policy):
        return _MeteredChat(policy, key, spending, first, clock, own)
    spending.require_cost(known=False)
    return _MeteredPolicy(policy, key, spending, first, clock, own)


class _Metered:
    def __init__(
        self,
        policy: AnyPolicy,
        key: TrajectoryKey,
        spending: Spending,
        first: FirstAnswer,
        clock: AgentClock,
        own: str | None,
    ) -> None:
        self.name = policy.name
        self._policy, self._clock = policy, clock
        self._key, self._spending, self._first, self._own = key, spending, first, own

    @property
    def unavailable_reason(self) -> str | None:
        """Why nothing can be sampled for this trajectory now; None while the policy can, or does not report it."""
        return unavailable_reason(self._policy, str(self._key))

    async def close(self) -> None:
        """Nothing: the policy belongs to whoever opened it."""

    def _answered(self, usage: Usage) -> None:
        self._first.came()
        self._spending.count(self._key, usage)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        self._spending.require_left()
        try:
            with self._clock.response():
                yield
        except ContextOverflow:
            self._first.came()  # it works
            raise
        except PolicyError as error:
            if isinstance(error, AnswersLost):
                self._spending.count_lost(self._key, error.usage)
            self._first.failed(error)
            raise
        except SweAemError:
            raise
        except Exception as error:
            if self._own is None:
                raise
            raise ExtensionFailed(f"policy {self._own} raised {describe(error)}") from error


class _MeteredPolicy(_Metered):
    """A policy that takes token ids."""

    _policy: Policy

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, trajectory_id: str) -> Completion:
        """Sample one response, as `core.Policy` says; raises `BudgetSpent` too."""
        with self._asking():
            completion = await self._policy.sample(prompt_ids, params, trajectory_id=trajectory_id)
        self._answered(Usage(prompt_tokens=len(prompt_ids), completion_tokens=len(completion.token_ids)))
        return completion


class _MeteredChat(_Metered):
    """A policy that takes messages."""

    _policy: ChatPolicy
    _last: Usage | None = None

    async def chat(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]],
        params: SamplingParams,
        *,
        trajectory_id: str,
    ) -> ChatCompletion:
        """Answer messages, as `core.ChatPolicy` says; raises `BudgetSpent` too."""
        with self._asking():
            try:
                completion = await self._policy.chat(messages, tools, params, trajectory_id=trajectory_id)
            except asyncio.CancelledError:
                if self.unavailable_reason is None:  # the API works on it, and bills what it writes to its end
                    self._spending.count_lost(self._key, _cut_off(self._last, params.max_tokens))
                raise
        self._last = completion.usage
        self._answered(completion.usage)
        return completion


def _cut_off(last: Usage | None, max_tokens: int) -> Usage:
    """What a request may have taken that was cut off: a prompt as long as the `last` one and its response, which is
    what an API has counted so far, and a response as long as it may be; at the last one's price."""
    if last is None:
        return Usage(prompt_tokens=0, completion_tokens=max_tokens)
    tokens = last.tokens + max_tokens
    cost_usd = None if last.cost_usd is None or not last.tokens else last.cost_usd / last.tokens * tokens
    return Usage(prompt_tokens=last.tokens, completion_tokens=max_tokens, cost_usd=cost_usd)
