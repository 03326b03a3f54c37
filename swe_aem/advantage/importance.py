"""Importance sampling between the policy that sampled a token and the old policy, whose loss is taken.

The two differ where the samples are of older weights, and a little where server and trainer compute the same weights in
different ways. With r = old probability / probability when sampled, of one token:

    truncate                   weight min(max(r, low), high)
    mask                       weight r inside [low, high], 0 outside
    sequence_geometric_mask    weight 1 in rows whose geometric mean of r lies inside [low, high], 0 in the others

A weight multiplies the advantage of its token. A token of weight 0 has no gradient and stays in whatever the loss
divides by, so no other token's gradient changes. No gradient flows through any of this. Papers: docs/papers.md.
"""

from typing import NamedTuple, assert_never

import torch
from torch import Tensor

from swe_aem.advantage.config import ImportanceSamplingConfig

_LARGEST_LOG_RATIO = 20.0
"""Ratios beyond exp(20) say no more than that the sampler never draws the token, and would overflow. Below exp(-20) a
single token would decide a mean of logarithms."""


class Mismatch(NamedTuple):
    """How far the old policy is from the sampler, over sampled tokens. Each field is a scalar float64 tensor."""

    tokens: Tensor
    ratio: Tensor
    """Sum of the ratios."""
    lowest: Tensor
    """Smallest ratio; inf without tokens."""
    highest: Tensor
    """Largest ratio; -inf without tokens."""
    k3: Tensor
    """Sum of r - 1 - log r, whose mean estimates KL(sampler || old policy) and is never negative."""
    log_ratio: Tensor
    """Sum of |log r|."""
    below: Tensor
    """Tokens whose ratio, or whose row's mean, is below `low`; 0 without a bound."""
    above: Tensor
    """The same above `high`."""


def log_ratios(old: Tensor, sampler: Tensor, sampled: Tensor) -> Tensor:
    """(B, T) log of old probability / probability when sampled, at most 20; 0 where nothing was sampled.

    `old` and `sampler` are (B, T) log-probabilities, `sampled` is (B, T) bool.
    """
    return (old - sampler).clamp(max=_LARGEST_LOG_RATIO).masked_fill(~sampled, 0.0)


def importance_weights(log_ratio: Tensor, sampled: Tensor, config: ImportanceSamplingConfig) -> Tensor:
    """(B, T) weights of tokens, 0 or more; 1 where nothing was sampled. Shapes are those of `log_ratios`."""
    low, high = _bounds(config)
    match config.mode:
        case "none":
            return torch.ones_like(log_ratio)
        case "truncate":
            return log_ratio.exp().clamp(low, high)
        case "mask":
            ratio = log_ratio.exp()
            return ratio.masked_fill((ratio < low) | (ratio > high), 0.0)
        case "sequence_geometric_mask":
            mean = _row_means(log_ratio, sampled)
            kept = ((mean >= low) & (mean <= high)).to(log_ratio.dtype).expand_as(log_ratio)
            return kept.masked_fill(~sampled, 1.0)
        case _:
            assert_never(config.mode)


def mismatch(log_ratio: Tensor, sampled: Tensor, config: ImportanceSamplingConfig) -> Mismatch:
    """The sums of one process. Shapes are those of `log_ratios`."""
    low, high = _bounds(config)
    ratio = log_ratio[sampled].double().exp()
    logs = _bounded(log_ratio)[sampled]
    judged = ratio
    if config.mode == "sequence_geometric_mask":
        judged = _row_means(log_ratio, sampled).expand_as(log_ratio)[sampled]
    nothing = ratio.new_tensor([torch.inf])
    return Mismatch(
        tokens=ratio.new_tensor(float(ratio.numel())),
        ratio=ratio.sum(),
        lowest=torch.cat([ratio, nothing]).min(),
        highest=torch.cat([ratio, -nothing]).max(),
        k3=(torch.expm1(logs) - logs).sum(),
        log_ratio=logs.abs().sum(),
        below=(judged < low).double().sum(),
        above=(judged > high).double().sum(),
    )


def mismatch_figures(processes: Tensor, config: ImportanceSamplingConfig) -> dict[str, float]:
    """Metrics of a step from the stacked `Mismatch` of all processes, (P, 8); none without tokens."""
    every = Mismatch(*processes.double().unbind(1))
    tokens = float(every.tokens.sum())
    if not tokens:
        return {}
    figures = {
        "importance/mean": float(every.ratio.sum()) / tokens,
        "importance/min": float(every.lowest.min()),
        "importance/max": float(every.highest.max()),
        "importance/k3_kl": float(every.k3.sum()) / tokens,
        "importance/abs_log_ratio": float(every.log_ratio.sum()) / tokens,
    }
    if config.mode != "none":
        figures["importance/low_share"] = float(every.below.sum()) / tokens
        figures["importance/high_share"] = float(every.above.sum()) / tokens
    return figures


def _bounds(config: ImportanceSamplingConfig) -> tuple[float, float]:
    low = 0.0 if config.low is None else config.low
    return low, torch.inf if config.high is None else config.high


def _row_means(log_ratio: Tensor, sampled: Tensor) -> Tensor:
    """(B, 1) float64: the geometric mean of a row's ratios; 1 in a row without sampled tokens."""
    total = (_bounded(log_ratio) * sampled).sum(1, keepdim=True)
    return (total / sampled.sum(1, keepdim=True).clamp(min=1)).exp()


def _bounded(log_ratio: Tensor) -> Tensor:
    """(B, T) float64, for means of logarithms."""
    return log_ratio.double().clamp(min=-_LARGEST_LOG_RATIO)
