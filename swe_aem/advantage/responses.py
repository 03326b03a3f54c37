"""Responses of a batch: their mean entropies, and values of responses as values of tokens. Imports torch alone."""

from typing import NamedTuple

import torch
from torch import Tensor

from swe_aem.advantage.groups import extremes, require_finite, totals


class Responses(NamedTuple):
    """The trained responses of a batch, numbered row by row and, in a row, by their numbers there."""

    mean_entropy: Tensor
    """(N,) float64, nats per token."""
    row: Tensor
    """(N,) long: the row of the batch that holds a response."""
    of_token: Tensor
    """(B, T) long: the response that a token belongs to, -1 where it belongs to none."""
    tokens: Tensor
    """(N,) float64: how many tokens a response has."""


def responses(entropy: Tensor, span: Tensor) -> Responses:
    """Length-normalised entropies of a batch's responses.

    `entropy` is (B, T), nats of the old policy at each token; `span` is (B, T) long, the number of the response within
    its row, -1 for tokens that the policy did not sample or that are not trained. Numbers need not be dense or ascend.
    Raises `ValueError` for shapes that differ, or an entropy in a response that is not finite.
    """
    if entropy.shape != span.shape or entropy.dim() != 2:
        raise ValueError(f"entropy {tuple(entropy.shape)} and span {tuple(span.shape)} must be the same (B, T)")
    inside = span >= 0
    width = int(span.max()) + 1 if span.numel() else 0
    rows = torch.arange(span.size(0), device=span.device).unsqueeze(1).expand_as(span)
    keys, member = torch.unique((rows * max(width, 1) + span)[inside], return_inverse=True)
    values = entropy.detach()[inside].double()
    require_finite(values, "entropy")
    total = values.new_zeros(keys.numel()).index_add_(0, member, values)
    count = values.new_zeros(keys.numel()).index_add_(0, member, torch.ones_like(values))
    of_token = torch.full_like(span, -1)
    of_token[inside] = member
    return Responses(mean_entropy=total / count, row=keys // max(width, 1), of_token=of_token, tokens=count)


def token_advantages(advantage: Tensor, factor: Tensor, of_token: Tensor) -> Tensor:
    """(B, T) advantages: those given, (B,) or (B, T), times the factor of the response that a token belongs to.

    `factor` is (N,) and `of_token` (B, T) as `responses` numbers them. Tokens of no response keep their advantage.
    """
    base = advantage.unsqueeze(1) if advantage.dim() == 1 else advantage
    return base * token_values(factor, of_token, outside=1.0).to(advantage.dtype)


def token_values(values: Tensor, of_token: Tensor, *, outside: float) -> Tensor:
    """(B, T) of (N,) values of responses, numbered as in `of_token`, (B, T) long; `outside` for tokens of none."""
    if not values.numel():
        return torch.full(of_token.shape, outside, dtype=values.dtype, device=of_token.device)
    return torch.where(of_token >= 0, values[of_token.clamp(min=0)], torch.full_like(values[:1], outside))


def paid_before(rewards: Tensor, group: Tensor) -> Tensor:
    """(B, R): what the responses of a row before each are paid, minus the mean of that over the other rows of its group
    that have a response of its number; 0 where there is no other, and where `rewards`, (B, R), are NaN. `group` is (B,)
    long."""
    known, paid = ~rewards.isnan(), rewards.nan_to_num(0.0)
    before = paid.cumsum(1) - paid
    place = (group.unsqueeze(1) * rewards.size(1) + torch.arange(rewards.size(1)))[known]
    count = totals(torch.ones_like(before[known]), place)
    result = torch.zeros_like(before)
    result[known] = (before[known] - totals(before[known], place) / count) * count / (count - 1).clamp(min=1)
    return result


def entropy_metrics(mean_entropy: Tensor, group: Tensor) -> dict[str, float]:
    """How uncertain a batch's responses are, in numbers, none without responses. Both are (N,), and groups are rollout
    groups. Minimum, maximum and range are of a group, as means over groups; nats per token."""
    if not mean_entropy.numel():
        return {}
    lowest, highest, _ = extremes(mean_entropy.double(), group)
    return {
        "response_entropy": float(mean_entropy.mean()),
        "entropy_min": float(lowest.mean()),
        "entropy_max": float(highest.mean()),
        "entropy_range": float((highest - lowest).mean()),
        "responses": float(mean_entropy.numel()),
    }
