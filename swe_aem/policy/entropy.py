"""The entropy of a sampling distribution, as far as a server's answer tells it.

    H = - sum over the vocabulary of p log p  >=  - sum over the 20 likeliest tokens of p log p

A server reports the log-probabilities of a token's alternatives, not its whole distribution. The sum over the 20
likeliest is a lower bound that ranks responses almost as the whole does; without alternatives there is the sampled
token's own surprisal -log p, whose mean over a response is an unbiased but noisy estimate.
"""

import math
from collections.abc import Sequence
from typing import Any

from swe_aem.core.policy import EntropyEstimator

TOP = 20


def truncated_entropy(logprobs: Sequence[float]) -> float:
    """Nats; of the `TOP` highest of the log-probabilities given, at least 0."""
    return max(0.0, -math.fsum(math.exp(value) * value for value in sorted(logprobs, reverse=True)[:TOP]))


def estimated(alternatives: Any, logprobs: Sequence[float]) -> tuple[tuple[float, ...], EntropyEstimator]:
    """(entropy at each token, what made it). `alternatives` are a server's `top_logprobs`: for each token a mapping
    with the likeliest tokens' log-probabilities, or anything else if it reports none."""
    if (
        isinstance(alternatives, list)
        and len(alternatives) == len(logprobs)
        and all(isinstance(one, dict) and len(one) >= TOP for one in alternatives)
    ):
        return tuple(truncated_entropy(list(one.values())) for one in alternatives), "top20"
    return tuple(-float(value) for value in logprobs), "surprisal"
