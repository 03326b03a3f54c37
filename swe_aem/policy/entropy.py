"""Estimates of the entropy of a sampling distribution from what a server reports.

    H = - sum over the vocabulary of p log p  >=  - sum over the 20 likeliest tokens of p log p

A server reports the log-probabilities of a token's likeliest alternatives, not the whole distribution. The sum over the
20 likeliest is a lower bound that ranks responses almost as the whole sum does. Without alternatives, the estimate is
the surprisal -log p of the sampled token, whose mean over a response is unbiased but noisy.
"""

import math
from collections.abc import Collection, Sequence
from operator import mul, neg
from typing import Any

from swe_aem.core.policy import EntropyEstimator

TOP = 20
"""Alternatives per token that the estimate `top20` sums over."""


def are_logprobs(values: Collection[Any]) -> bool:
    """Are they finite numbers? Without a look at each in Python: a response has hundreds."""
    try:
        return set(map(type, values)) <= {int, float} and all(map(math.isfinite, values))
    except OverflowError:  # a whole number beyond all floats
        return False


def truncated_entropy(logprobs: Sequence[float]) -> float:
    """Sum of -p log p in nats over the `TOP` highest of the given log-probabilities; never below 0."""
    highest = logprobs if len(logprobs) <= TOP else sorted(logprobs, reverse=True)[:TOP]
    return max(0.0, -math.fsum(map(mul, map(math.exp, highest), highest)))


def estimated(alternatives: Any, logprobs: Sequence[float]) -> tuple[tuple[float, ...], EntropyEstimator]:
    """The entropy at each token in nats, and the name of the estimator. `alternatives` are a server's `top_logprobs`:
    for each token a mapping with the likeliest tokens' log-probabilities, or anything else if the server reports
    none."""
    if (
        isinstance(alternatives, list)
        and len(alternatives) == len(logprobs)
        and all(isinstance(one, dict) and len(one) >= TOP and are_logprobs(one.values()) for one in alternatives)
    ):
        return tuple(truncated_entropy(list(one.values())) for one in alternatives), "top20"
    return tuple(map(neg, logprobs)), "surprisal"
