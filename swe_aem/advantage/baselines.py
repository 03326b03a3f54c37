"""Baselines: a trajectory's reward against those of its group that count. Each is an estimator by itself.

Rows that do not count (infrastructure failures, `swe_aem.core.outcome.OUTCOME_TABLE`) are in no mean and get 0; their
rewards are not read. Where responses have rewards of their own, a response is credited with what is paid from it on
(`responses.paid_before`): a reward that is paid at the last one alone is the same as one for the trajectory.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from swe_aem.advantage.config import Baseline
from swe_aem.advantage.groups import require_finite, totals
from swe_aem.advantage.inputs import AdvantageInputs
from swe_aem.advantage.responses import paid_before

_EPSILON = 1e-4
"""Added to the standard deviation, as TRL does."""


def leave_one_out(inputs: AdvantageInputs) -> Tensor:
    """Reward minus the mean reward of the others of its group (RLOO, arXiv 2402.14740; the baseline of DeepSWE). A row
    that is alone in its group gets 0."""
    _, centred, number = _centred(inputs)
    return _by_response(inputs, centred * (number / (number - 1).clamp(min=1)))


def group_mean(inputs: AdvantageInputs) -> Tensor:
    """Reward minus the mean reward of its group (Dr. GRPO, arXiv 2503.20783)."""
    return _by_response(inputs, _centred(inputs)[1])


def group_normalised(inputs: AdvantageInputs) -> Tensor:
    """That, divided by the group's standard deviation, the unbiased one as in TRL (GRPO, arXiv 2402.03300)."""
    _, centred, number = _centred(inputs)
    deviation = (totals(centred**2, inputs.group) / (number - 1).clamp(min=1)).sqrt() + _EPSILON
    return _by_response(inputs, centred / deviation, deviation)


def max_rl(inputs: AdvantageInputs) -> Tensor:
    """Reward minus the mean reward of its group, divided by that mean (MaxRL, arXiv 2602.02710): for rewards of 0 and
    1 the gradient of a likelihood, truncated at the group's size. Groups whose mean is 0 or below get 0."""
    mean, centred, _ = _centred(inputs)
    solved = mean > 0
    scale = torch.where(solved, mean, torch.ones_like(mean))
    return _by_response(inputs, torch.where(solved, centred / scale, torch.zeros_like(centred)), scale)


BASELINES: dict[Baseline, Callable[[AdvantageInputs], Tensor]] = {
    "leave_one_out": leave_one_out,
    "group_mean": group_mean,
    "group_normalised": group_normalised,
    "max_rl": max_rl,
}
"""Every baseline that a configuration may name. A test holds names and functions together."""


def _centred(inputs: AdvantageInputs) -> tuple[Tensor, Tensor, Tensor]:
    """(B,) mean reward of a row's group, distance to it (0 where the row does not count), and how many count there."""
    counts, group = inputs.counts, inputs.group
    values = torch.where(counts, inputs.reward, torch.zeros_like(inputs.reward))
    require_finite(values, "reward")
    number = totals(counts.to(values.dtype), group)
    mean = totals(values, group) / number.clamp(min=1)
    return mean, torch.where(counts, values - mean, torch.zeros_like(values)), number


def _by_response(inputs: AdvantageInputs, advantage: Tensor, scale: Tensor | None = None) -> Tensor:
    """(B,), or (B, T) if responses have rewards: then each that has one is reduced by what earlier ones are paid."""
    if inputs.response_rewards is None:
        return advantage
    before = paid_before(inputs.response_rewards, inputs.group)
    before = before if scale is None else before / scale.unsqueeze(1)
    numbers = inputs.response_of_token
    last = int(numbers.max()) if numbers.numel() else -1
    before = pad(before, (0, max(0, last + 1 - before.size(1)))).gather(1, numbers.clamp(min=0))
    return advantage.unsqueeze(1) - before.masked_fill(numbers < 0, 0.0)
