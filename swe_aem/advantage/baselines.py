"""Base advantages of rollout groups: a trajectory's reward against those of its group that count.

Rows that do not count (infrastructure failures, `swe_aem.core.outcome.OUTCOME_TABLE`) are in no mean and get advantage
0; their rewards are not read.
"""

import torch
from torch import Tensor

_EPSILON = 1e-4
"""Added to the standard deviation, as TRL does."""


def leave_one_out(reward: Tensor, group: Tensor, counts: Tensor) -> Tensor:
    """Reward minus the mean reward of the others of its group (RLOO, arXiv 2402.14740; the baseline of DeepSWE).

    `reward` is (N,) float, `group` (N,) long, any numbers in any order, `counts` (N,) bool. Returns (N,). A row that
    is alone in its group gets 0. Raises `ValueError` for a reward that counts and is not finite.
    """
    values, centred, number = _centred(reward, group, counts)
    scale = number / (number - 1).clamp(min=1)
    return torch.where(counts, centred * scale, torch.zeros_like(values))


def group_relative(reward: Tensor, group: Tensor, counts: Tensor, *, scale: bool = True) -> Tensor:
    """Reward minus the mean reward of its group, divided by the group's standard deviation if `scale` (GRPO, arXiv
    2402.03300; without the division Dr. GRPO, arXiv 2503.20783).

    Shapes and errors are those of `leave_one_out`. The standard deviation is the unbiased one, as in TRL.
    """
    values, centred, number = _centred(reward, group, counts)
    if not scale:
        return centred
    _, member = torch.unique(group, return_inverse=True)
    squares = values.new_zeros(int(member.max()) + 1 if member.numel() else 0).index_add_(0, member, centred**2)
    deviation = (squares[member] / (number - 1).clamp(min=1)).sqrt()
    return centred / (deviation + _EPSILON)


def _centred(reward: Tensor, group: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards with 0 where they do not count, their distance to the group's mean, and how many of the group count."""
    if not reward.shape == group.shape == counts.shape or reward.dim() != 1:
        shapes = f"{tuple(reward.shape)}, {tuple(group.shape)}, {tuple(counts.shape)}"
        raise ValueError(f"reward, group and counts must be the same (N,), not {shapes}")
    values = torch.where(counts, reward, torch.zeros_like(reward))
    if not bool(torch.isfinite(values).all()):
        raise ValueError("a reward that counts is not finite")
    numbers, member = torch.unique(group, return_inverse=True)
    total = values.new_zeros(numbers.numel()).index_add_(0, member, values)
    number = values.new_zeros(numbers.numel()).index_add_(0, member, counts.to(values.dtype))
    mean = total / number.clamp(min=1)
    return values, torch.where(counts, values - mean[member], torch.zeros_like(values)), number[member]
