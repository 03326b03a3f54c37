"""What decides: a `Policy` takes token ids and reports those that it sampled; a `ChatPolicy` takes messages only."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from pydantic import model_validator

from swe_aem.core.base import Frozen
from swe_aem.core.routing import RoutedExperts, check_routed_experts

if TYPE_CHECKING:
    from typing_extensions import TypeIs

EntropyEstimator = Literal["top20", "surprisal"]
"""`top20`: the sum of -p log p over the 20 likeliest tokens, a lower bound; `surprisal`: -log p of the sampled token,
right on average only."""


class SamplingParams(Frozen):
    """How one response is sampled."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    stop_token_ids: tuple[int, ...] = ()
    """Generation ends after one of these; the stop token is part of the response."""
    seed: int | None = None
    """Unique per request, so that the trajectories of a group differ."""


class VersionSpan(Frozen):
    """The tokens of a response from `start` on were sampled by a later version of the weights than those before it."""

    start: int
    """Place of the first such token in the response; the response's first token has place 0."""
    version: int


def check_version_spans(version: int, spans: Sequence[VersionSpan], tokens: int) -> None:
    """Raise `ValueError` unless `spans` divide a response of that many tokens, whose first is of `version`, and each
    is of a later version than the one before it."""
    start = 0
    for span in spans:
        if not start < span.start < tokens or span.version <= version:
            raise ValueError(
                f"version {span.version} from token {span.start} of {tokens} on, after version {version} from token "
                f"{start} on"
            )
        start, version = span.start, span.version


class Completion(Frozen):
    """One sampled response, exactly as the policy's server reported it."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """Natural log-probability of each token under the temperature-scaled distribution; as long as `token_ids`."""
    finish_reason: Literal["stop", "length"]
    version: int = 0
    """Version of the weights that sampled its first token."""
    spans: tuple[VersionSpan, ...] = ()
    """Where later versions begin; empty where one version sampled all of it."""
    entropies: tuple[float, ...] | None = None
    """An estimate, in nats, of the sampling distribution's entropy at each token; as long as `token_ids`."""
    entropy_estimator: EntropyEstimator | None = None
    """What made the estimates."""
    routed_experts: RoutedExperts | None = None
    """Where a mixture's tokens went, if the policy was asked for it."""

    @model_validator(mode="after")
    def _spans_fit(self) -> "Completion":
        check_version_spans(self.version, self.spans, len(self.token_ids))
        check_routed_experts(self.routed_experts, len(self.token_ids))
        return self


class Usage(Frozen):
    """What one response took."""

    prompt_tokens: int
    completion_tokens: int
    """Sampled tokens, those of a reasoning that is not shown included."""
    cached_tokens: int = 0
    """How many of the prompt's tokens were read from a cache."""
    cost_usd: float | None = None
    """What it cost, in US dollars; None where that is not known."""

    @property
    def tokens(self) -> int:
        """Prompt and response together."""
        return self.prompt_tokens + self.completion_tokens


class ChatCompletion(Frozen):
    """One response of a chat API."""

    message: dict[str, Any]
    """The assistant message in OpenAI's form: `content` (text), and `reasoning_content` and `tool_calls` where there
    are any. Arguments of calls are text, and ids are the API's."""
    finish_reason: Literal["stop", "length"]
    usage: Usage
    """Everything that was billed, also for attempts whose answers were lost."""
    context_tokens: int = 0
    """Prompt and response of the answered request alone, where `usage` has more; otherwise 0."""


class Policy(Protocol):
    """Samples responses. One instance serves many trajectories at once unless its factory says otherwise."""

    name: str
    """What samples, e.g. the model's name; recorded as a trajectory's `model`."""

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, trajectory_id: str) -> Completion:
        """Sample one response to `prompt_ids`.

        Raises `PolicyError` if the policy or its server failed. Cancelling the call stops the generation.
        """
        ...

    async def close(self) -> None:
        """Release connections and memory; idempotent."""
        ...


class ChatPolicy(Protocol):
    """Answers chat messages, and reports no token ids: what it does can be evaluated, and not trained on. One instance
    serves many trajectories at once unless its factory says otherwise."""

    name: str
    """What answers, e.g. the model's name; recorded as a trajectory's `model`."""

    async def chat(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]],
        params: SamplingParams,
        *,
        trajectory_id: str,
    ) -> ChatCompletion:
        """Answer `messages`, the last of which is not the assistant's, with calls of `tools` where it likes. Both are
        in OpenAI's form; assistant messages are as this policy gave them.

        Raises `PolicyError` if the policy or its API failed, `ContextOverflow` if the messages fill the model's
        context. Cancelling the call stops the request.
        """
        ...

    async def close(self) -> None:
        """Release connections; idempotent."""
        ...


AnyPolicy = Policy | ChatPolicy
"""Either kind; `is_chat` tells them apart."""


def is_chat(policy: object) -> "TypeIs[ChatPolicy]":
    """Does it take messages? A policy that can do both is asked by token ids, which are worth more."""
    return hasattr(policy, "chat") and not hasattr(policy, "sample")


@runtime_checkable
class HealthReporting(Protocol):
    """A policy that can report that its backend is unavailable, for example because no server answers."""

    @property
    def unavailable_reason(self) -> str | None:
        """Why nothing can be sampled now; None while the backend is available."""
        ...


@runtime_checkable
class WaitReporting(Protocol):
    """A policy that can report what the request of one trajectory waits for, while those of others are answered."""

    def waits_for(self, trajectory_id: str) -> str | None:
        """Why the last request of a trajectory has no answer yet, also just after it was cancelled; None if the policy
        works on it, or has answered it."""
        ...


def unavailable_reason(policy: AnyPolicy, trajectory_id: str = "") -> str | None:
    """Why a policy cannot sample for a trajectory now, None if it can or does not report it."""
    if isinstance(policy, WaitReporting) and (waits_for := policy.waits_for(trajectory_id)) is not None:
        return waits_for
    return policy.unavailable_reason if isinstance(policy, HealthReporting) else None
