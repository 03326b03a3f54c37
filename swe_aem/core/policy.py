"""`Policy`: token ids in, sampled token ids and log-probabilities out."""

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

from swe_aem.core.base import Frozen

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


class Completion(Frozen):
    """One sampled response, exactly as the policy's server reported it."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """Natural log-probability of each token under the temperature-scaled distribution; as long as `token_ids`."""
    finish_reason: Literal["stop", "length"]
    version: int = 0
    """Version of the weights that sampled it."""
    entropies: tuple[float, ...] | None = None
    """An estimate, in nats, of the sampling distribution's entropy at each token; as long as `token_ids`."""
    entropy_estimator: EntropyEstimator | None = None
    """What made the estimates."""


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


@runtime_checkable
class HealthReporting(Protocol):
    """A policy that can report that its backend is unavailable, for example because no server answers."""

    @property
    def unavailable_reason(self) -> str | None:
        """Why nothing can be sampled now; None while the backend is available."""
        ...


def unavailable_reason(policy: Policy) -> str | None:
    """Why a policy cannot sample now, None if it can or does not report it.

    A deadline that passes while there is a reason is an infrastructure failure, and no time limit that the policy
    reached.
    """
    return policy.unavailable_reason if isinstance(policy, HealthReporting) else None
