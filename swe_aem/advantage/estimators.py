"""Advantages by `AdvantageConfig`: the one place that reads it, for the trainer and for replays of a store."""

from collections.abc import Callable
from functools import partial
from typing import assert_never

import torch
from torch import Tensor

from swe_aem.advantage.aem import coefficients, shuffled
from swe_aem.advantage.baselines import group_relative, leave_one_out
from swe_aem.advantage.config import AdvantageConfig, Baseline

BaselineFunction = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(reward (N,) float, group (N,) long, counts (N,) bool) to base advantages (N,), as in `baselines`."""

BASELINES: dict[Baseline, BaselineFunction] = {
    "leave_one_out": leave_one_out,
    "group_mean": partial(group_relative, scale=False),
    "group_normalised": group_relative,
}
"""Every baseline that a configuration may name. A test holds names and functions together."""


def base_advantages(reward: Tensor, group: Tensor, config: AdvantageConfig) -> Tensor:
    """(M,) base advantages from rewards, (M,), NaN for trajectories that do not count, and groups, (M,) long."""
    return BASELINES[config.baseline](reward, group, ~reward.isnan())


def factors(mean_entropy: Tensor, row: Tensor, group: Tensor, config: AdvantageConfig, *, step: int = 0) -> Tensor:
    """(N,) factors of responses from their mean entropies, (N,), and the numbers of their trajectories and groups.

    `step` and the configuration's seed decide a shuffle: it is the same on every process and in a resumed run.
    """
    if not config.aem:
        return torch.ones_like(mean_entropy)
    scope = _scope(row, group, config)
    alpha = coefficients(mean_entropy, scope, lam=_signed_lam(config), min_range=config.min_range)
    if config.shuffle:  # a large prime keeps the generators of all seeds and steps apart
        alpha = shuffled(alpha, scope, torch.Generator().manual_seed(config.seed * 1_000_003 + step))
    return alpha


def _scope(row: Tensor, group: Tensor, config: AdvantageConfig) -> Tensor:
    """(N,) long: responses with the same number are normalised together."""
    match config.scope:
        case "trajectory":
            return row
        case "group":
            return group
        case "batch":
            return torch.zeros_like(group)
        case other:
            assert_never(other)


def _signed_lam(config: AdvantageConfig) -> float:
    """λ, negative for the reversed direction."""
    match config.direction:
        case "paper":
            return config.lam
        case "reversed":
            return -config.lam
        case other:
            assert_never(other)
