"""Advantages by `AdvantageConfig`: the one place that reads them, for the trainer and for replays of a store."""

import torch
from torch import Tensor

from swe_aem.advantage.aem import coefficients, shuffled
from swe_aem.advantage.baselines import group_relative, leave_one_out
from swe_aem.advantage.config import AdvantageConfig


def base_advantages(reward: Tensor, group: Tensor, config: AdvantageConfig) -> Tensor:
    """(M,) base advantages from rewards, (M,), NaN for trajectories that do not count, and groups, (M,) long."""
    counts = ~reward.isnan()
    if config.baseline == "leave_one_out":
        return leave_one_out(reward, group, counts)
    return group_relative(reward, group, counts, scale=config.baseline == "group_normalised")


def factors(mean_entropy: Tensor, row: Tensor, group: Tensor, config: AdvantageConfig, *, step: int = 0) -> Tensor:
    """(N,) factors of responses from their mean entropies, (N,), and the numbers of their trajectories and groups.

    `step` and the settings' seed decide a shuffle, so that it is the same on every process and after a resumption.
    """
    if not config.aem:
        return torch.ones_like(mean_entropy)
    scope = {"trajectory": row, "group": group, "batch": torch.zeros_like(group)}[config.scope]
    lam = config.lam if config.direction == "paper" else -config.lam
    alpha = coefficients(mean_entropy, scope, lam=lam, min_range=config.min_range)
    if config.shuffle:
        alpha = shuffled(alpha, scope, torch.Generator().manual_seed(config.seed * 1_000_003 + step))
    return alpha
