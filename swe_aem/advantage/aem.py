"""Adaptive Entropy Modulation (AEM), arXiv 2605.00425: response-level entropy rescales advantages.

For the responses of a prompt's rollout group, with H the mean over a response's tokens of the old policy's entropy:

    H~    = (H - min H) / (max H - min H)              min and max over the group's responses
    alpha = exp(-lam H~) / mean exp(-lam H~)           mean over the same responses
    A     = alpha A_base                               for every token of the response

and alpha = 1 in a group whose entropies range over less than `min_range`. Only trained responses take part: the
caller leaves the others out. No gradient flows through any of this.

The paper's ablations use the same functions: `lam < 0` is the reversed direction, `shuffled` the shuffled factors, and
the group numbers decide the scope of the normalisation (one per trajectory, one per rollout group, or one for all).
"""

from typing import NamedTuple

import torch
from torch import Tensor

_LARGEST_LAM = 50.0
"""exp(-50) is 2e-22: factors beyond that would vanish beside 1 and then in float32."""


class Responses(NamedTuple):
    """The responses of a batch, numbered row by row."""

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
    _require_finite(values, "entropy")
    total = values.new_zeros(keys.numel()).index_add_(0, member, values)
    count = values.new_zeros(keys.numel()).index_add_(0, member, torch.ones_like(values))
    of_token = torch.full_like(span, -1)
    of_token[inside] = member
    return Responses(mean_entropy=total / count, row=keys // max(width, 1), of_token=of_token, tokens=count)


def coefficients(mean_entropy: Tensor, group: Tensor, *, lam: float = 1.0, min_range: float = 0.1) -> Tensor:
    """The factor alpha of each response: positive, with mean 1 over each group.

    `mean_entropy` is (N,) float, nats; `group` is (N,) long, any numbers in any order. Returns (N,) of the dtype of
    `mean_entropy`. Exactly 1 for `lam` 0, and in groups whose entropies range over less than `min_range` nats.
    Raises `ValueError` for shapes that differ, values that are not finite, a negative `min_range`, and a `lam` beyond
    50 in either direction, where the smallest factors would vanish.
    """
    if mean_entropy.shape != group.shape or mean_entropy.dim() != 1:
        raise ValueError(
            f"mean_entropy {tuple(mean_entropy.shape)} and group {tuple(group.shape)} must be the same (N,)"
        )
    if not min_range >= 0:
        raise ValueError(f"min_range is {min_range}; give 0 or more")
    if not -_LARGEST_LAM <= lam <= _LARGEST_LAM:
        raise ValueError(f"lam is {lam}; give a number from {-_LARGEST_LAM:g} to {_LARGEST_LAM:g}")
    values = mean_entropy.detach().double()
    _require_finite(values, "mean_entropy")
    numbers, member = torch.unique(group, return_inverse=True)
    lowest, highest = _extremes(values, member, numbers.numel())
    spread = (highest - lowest)[member]
    normalised = (values - lowest[member]) / torch.where(spread > 0, spread, torch.ones_like(spread))
    weight = torch.exp(-lam * normalised)
    total = weight.new_zeros(numbers.numel()).index_add_(0, member, weight)
    count = weight.new_zeros(numbers.numel()).index_add_(0, member, torch.ones_like(weight))
    alpha = weight / (total / count)[member]
    return torch.where(spread < min_range, torch.ones_like(alpha), alpha).to(mean_entropy.dtype)


def metrics(alpha: Tensor, mean_entropy: Tensor, tokens: Tensor, group: Tensor) -> dict[str, float]:
    """What AEM made of a batch, in numbers: its metrics by name, none without responses.

    All are (N,), one value per response: factors, mean entropies, numbers of tokens, and the rollout groups whatever
    the scope of the normalisation. The entropies' minimum, maximum and range are of a group, as means over groups.
    """
    if not alpha.numel():
        return {}
    values, length = mean_entropy.double(), tokens.double()
    numbers, member = torch.unique(group, return_inverse=True)
    lowest, highest = _extremes(values, member, numbers.numel())
    found = {
        "alpha_min": alpha.min(),
        "alpha_max": alpha.max(),
        "alpha_std": alpha.std(correction=0),
        "alpha_token_mean": (alpha.double() * length).sum() / length.sum(),
        "unmodulated_share": (alpha == 1).double().mean(),
        "response_entropy": mean_entropy.mean(),
        "entropy_min": lowest.mean(),
        "entropy_max": highest.mean(),
        "entropy_range": (highest - lowest).mean(),
    }
    return {name: float(value) for name, value in found.items()} | {"responses": float(alpha.numel())}


def shuffled(alpha: Tensor, group: Tensor, generator: torch.Generator) -> Tensor:
    """The same factors, permuted at random within each group: an ablation that keeps only their distribution."""
    order = torch.randperm(alpha.numel(), generator=generator).to(alpha.device)
    dealt = order[torch.argsort(group[order], stable=True)]
    places = torch.argsort(group, stable=True)
    result = torch.empty_like(alpha)
    result[places] = alpha[dealt]
    return result


def token_advantages(advantage: Tensor, alpha: Tensor, of_token: Tensor) -> Tensor:
    """(B, T) advantages: those of the rows, (B,), times the factor of the response that a token belongs to.

    `alpha` is (N,) and `of_token` (B, T) as `responses` numbers them. Tokens of no response keep their row's advantage.
    """
    if not alpha.numel():
        return advantage.unsqueeze(1).expand(of_token.shape).contiguous()
    factor = torch.where(of_token >= 0, alpha[of_token.clamp(min=0)], torch.ones_like(alpha[:1]))
    return advantage.unsqueeze(1) * factor.to(advantage.dtype)


def _extremes(values: Tensor, member: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """(G,) lowest and (G,) highest of the values, (N,), of each group, by its number below `groups` in `member`."""
    empty = values.new_zeros(groups)
    lowest = empty.scatter_reduce(0, member, values, "amin", include_self=False)
    return lowest, empty.scatter_reduce(0, member, values, "amax", include_self=False)


def _require_finite(values: Tensor, name: str) -> None:
    if not bool(torch.isfinite(values).all()):
        raise ValueError(f"{name} holds a value that is not finite")
