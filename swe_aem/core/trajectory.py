"""`Trajectory`: one token stream, its responses as explicit spans, and what it takes to train on it or repeat it."""

from collections.abc import Iterable
from enum import StrEnum
from statistics import fmean
from typing import Any, Literal

from pydantic import model_validator

from swe_aem.core.base import Frozen
from swe_aem.core.key import TrajectoryKey
from swe_aem.core.outcome import Outcome
from swe_aem.core.policy import (
    ChatCompletion,
    Completion,
    EntropyEstimator,
    Usage,
    VersionSpan,
    check_version_spans,
)
from swe_aem.core.routing import RoutedExperts, check_routed_experts
from swe_aem.core.verdict import Verdict


class Stop(StrEnum):
    """Why the agent's loop ended. Grading turns it into an `Outcome`."""

    SUBMITTED = "submitted"
    TURN_LIMIT = "turn_limit"
    CONTEXT_LIMIT = "context_limit"
    TIME_LIMIT = "time_limit"
    MALFORMED = "malformed"
    SANDBOX_DEAD = "sandbox_dead"


class ToolCall(Frozen):
    """One tool call of a response and what came back."""

    name: str
    arguments: dict[str, Any]
    """The arguments as they were carried out; a malformed call's text as `raw`."""
    status: Literal["ok", "malformed"] = "ok"
    converted: int = 0
    """How many arguments did not fit as the policy wrote them and were read without loss: a null that stands for an
    optional argument left out, `"3"` for an integer, all arguments as one JSON text."""
    observation: str = ""
    """The text that the policy saw."""
    exit_code: int | None = None
    timed_out: bool = False
    wall_s: float = 0.0


class Response(Frozen):
    """One assistant turn: the half-open span [start, end) of sampled tokens in the trajectory's `token_ids`.

    A chat API reports no token ids: then there is `usage`, the span is [0, 0), and there are no log-probabilities.
    """

    start: int
    end: int
    logprobs: tuple[float, ...]
    version: int
    """Version of the weights that sampled its first token: its oldest."""
    spans: tuple[VersionSpan, ...] = ()
    """Where later versions begin, for a response that updates of the weights have interrupted; otherwise empty."""
    finish_reason: Literal["stop", "length"]
    sample_s: float
    """Seconds that the policy took."""
    entropy: float | None = None
    """Mean of the policy's entropy estimates over the span, in nats; None if it made none."""
    entropy_estimator: EntropyEstimator | None = None
    """What estimated them; values of two estimators do not compare."""
    routed_experts: RoutedExperts | None = None
    """To which experts of a mixture the tokens went from which it was sampled; None where nobody asked."""
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage | None = None
    """What a chat API reported; None where the tokens themselves are known."""

    @model_validator(mode="after")
    def _version_spans_fit(self) -> "Response":
        check_version_spans(self.version, self.spans, self.end - self.start)
        check_routed_experts(self.routed_experts, self.end - self.start)
        return self

    @property
    def versions(self) -> tuple[int, ...]:
        """The versions of the weights that sampled it, from the oldest to the newest."""
        return (self.version, *(span.version for span in self.spans))

    @property
    def last_version(self) -> int:
        """Version of the weights that sampled its last token: its newest."""
        return self.versions[-1]

    @property
    def used(self) -> Usage:
        """How many tokens it took, whatever policy gave it."""
        return self.usage or Usage(prompt_tokens=self.start, completion_tokens=self.end - self.start)

    @staticmethod
    def of(completion: Completion, *, start: int, sample_s: float, tool_calls: Iterable[ToolCall]) -> "Response":
        """The response for a completion whose first token is at `start` of the stream."""
        return Response(
            start=start,
            end=start + len(completion.token_ids),
            logprobs=completion.logprobs,
            version=completion.version,
            spans=completion.spans,
            finish_reason=completion.finish_reason,
            sample_s=sample_s,
            entropy=None if completion.entropies is None else fmean(completion.entropies),
            entropy_estimator=completion.entropy_estimator,
            routed_experts=completion.routed_experts,
            tool_calls=tuple(tool_calls),
        )

    @staticmethod
    def of_chat(completion: ChatCompletion, *, sample_s: float, tool_calls: Iterable[ToolCall]) -> "Response":
        """The response for a chat API's completion."""
        return Response(
            start=0,
            end=0,
            logprobs=(),
            version=0,
            finish_reason=completion.finish_reason,
            sample_s=sample_s,
            tool_calls=tuple(tool_calls),
            usage=completion.usage,
        )


class Branch(Frozen):
    """A token stream beside a trajectory's own: what was sampled after a harness had rewritten its history, in a second
    conversation, or with thinking that the other stream leaves out. Spans point into its own `token_ids`."""

    token_ids: tuple[int, ...]
    responses: tuple[Response, ...]
    messages: tuple[dict[str, Any], ...] = ()
    """The conversation as chat messages, where there are no token ids that say the same."""
    by_agent: bool = False
    """Is it certain that the agent asked for it, and none of the policy's own commands? Only then may it be trained on.
    False in stores that do not say."""

    @model_validator(mode="after")
    def _spans_fit(self) -> "Branch":
        check_spans(self.responses, len(self.token_ids))
        return self


class Trajectory(Frozen):
    """Everything between the first prompt token and the verdict.

    Invariant: the prompt of response n+1 is exactly `token_ids[:responses[n+1].start]`; nothing is ever re-tokenised. A
    trajectory of a chat API has no token ids at all, and all its responses have `usage`.
    """

    task_id: str
    sample: int
    """Index within the task's group, 0 .. G-1."""
    attempt: int = 0
    """How many attempts ended in an infrastructure failure before this one."""
    agent: str
    model: str
    token_ids: tuple[int, ...] = ()
    responses: tuple[Response, ...] = ()
    branches: tuple[Branch, ...] = ()
    """Streams that are not part of this one. Each response is in one stream; training sees `responses`, and those of
    branches only where `branches_per_trajectory` asks for them."""
    messages: tuple[dict[str, Any], ...] = ()
    """The conversation as chat messages, for people and for supervised fine-tuning; RL trains on the ids."""
    stop: Stop | None = None
    patch: str = ""
    """The diff against the base commit that the host recorded when the sandbox opened, as the agent left it; what
    grading strips from it is listed in the verdict."""
    outcome: Outcome | None = None
    """None until the trajectory is graded."""
    reward: float | None = None
    """What it is paid, 0 or more; None where the outcome says nothing about the policy."""
    response_rewards: tuple[float, ...] | None = None
    """The reward by response, which sums to `reward`; None where the reward is one number."""
    reward_terms: dict[str, float] = {}
    """What each named term of the reward pays before its weight; empty for a reward without named terms, and for
    outcomes whose reward is a constant."""
    weight: float = 1.0
    """Weight of the trajectory in training, 0..1: that of its task."""
    verdict: Verdict | None = None
    error: str | None = None
    """What failed, for infrastructure and grader failures; what killed the sandbox; why a task is broken."""
    timings_s: dict[str, float] = {}
    """Seconds per phase: queue, start, agent, patch, grade, total."""

    @model_validator(mode="after")
    def _spans_fit(self) -> "Trajectory":
        check_spans(self.responses, len(self.token_ids))
        return self

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> "Trajectory":
        kinds = {response.usage is None for response in self.all_responses}
        has_ids = self.token_ids or any(branch.token_ids for branch in self.branches)
        if len(kinds) > 1 or (False in kinds and has_ids):
            raise ValueError("responses with token ids and responses of a chat API are in one trajectory")
        return self

    @model_validator(mode="after")
    def _rewards_fit(self) -> "Trajectory":
        if self.response_rewards is not None and len(self.response_rewards) != len(self.responses):
            raise ValueError(f"{len(self.response_rewards)} response_rewards for {len(self.responses)} responses")
        return self

    @property
    def key(self) -> TrajectoryKey:
        """Which trajectory of its run it is."""
        return TrajectoryKey(self.task_id, self.sample)

    @property
    def id(self) -> str:
        """The text of `key`, `<task id>.<sample>`: unique within a run."""
        return str(self.key)

    @property
    def all_responses(self) -> tuple[Response, ...]:
        """Every response, those of branches included."""
        return (*self.responses, *(response for branch in self.branches for response in branch.responses))

    @property
    def token_exact(self) -> bool:
        """Are its token ids known, so that it can be trained on? Those of a chat API are not."""
        return all(response.usage is None for response in self.all_responses)

    @property
    def tokens(self) -> int:
        """Tokens of the conversation from its first to its last; for a chat API, of the last prompt and response."""
        return len(self.token_ids) or (self.responses[-1].used.tokens if self.responses else 0)

    @property
    def sampled_mask(self) -> list[bool]:
        """For every token of `token_ids`: was it sampled by the policy?"""
        mask = [False] * len(self.token_ids)
        for response in self.responses:
            mask[response.start : response.end] = [True] * (response.end - response.start)
        return mask


def check_spans(responses: tuple[Response, ...], tokens: int) -> None:
    """Raise `ValueError` unless the responses lie one after the other in a stream of that many tokens. Those of a chat
    API lie nowhere."""
    end = 0
    for n, response in enumerate(responses):
        if response.usage is not None:
            if (response.start, response.end, response.logprobs) != (0, 0, ()):
                raise ValueError(f"response {n} has usage, which a chat API reports, and a span of token ids too")
            continue
        if not end <= response.start < response.end <= tokens:
            raise ValueError(f"response {n} has span [{response.start}, {response.end}) after {end}")
        if len(response.logprobs) != response.end - response.start:
            raise ValueError(f"response {n} has {len(response.logprobs)} log-probabilities for its span")
        end = response.end
