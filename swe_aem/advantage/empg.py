"""Entropy-Modulated Policy Gradients (EMPG), arXiv 2509.09265: sure steps weigh more, a clear future is a bonus.

A step of the paper is a response here. With H the mean over a response's tokens of the old policy's entropy, and
minimum, maximum and means over all trained responses of the batch:

    H~  = (H - min H) / (max H - min H)
    g_t = exp(-k H~_t) / mean exp(-k H~)               self-calibrating scaling
    f_t = exp(-k' H~_t)                                clarity of the next step, 0 after the last
    A_t = g_t A_base + zeta f_{t+1}                    for every token of response t
    A_t = A_t - mean A                                 if `center`

A zero-variance group gets the bonus alone, so it is not without a gradient here.
"""

import torch
from torch import Tensor

from swe_aem.advantage.baselines import BASELINES
from swe_aem.advantage.config import EMPGConfig
from swe_aem.advantage.inputs import AdvantageInputs
from swe_aem.advantage.responses import entropy_metrics, token_advantages, token_values


class EMPG(EMPGConfig):
    """EMPG as an estimator."""

    def __call__(self, inputs: AdvantageInputs) -> tuple[Tensor, dict[str, float]]:
        """(B, T) advantages, and metrics of scaling, bonus and entropies."""
        found = inputs.responses
        if not found.tokens.numel():
            return BASELINES[self.baseline](inputs), {}
        scaling, clarity = self._scaling_and_clarity(found.mean_entropy)
        bonus = self.zeta * _of_next(clarity, found.row)
        advantages = token_advantages(BASELINES[self.baseline](inputs), scaling, found.of_token)
        advantages = advantages + token_values(bonus, found.of_token, outside=0.0).to(advantages.dtype)
        center = 0.0
        if self.center:
            inside = found.of_token >= 0
            # A mean over responses: each token counts for its share of its response.
            share = token_values(1 / found.tokens, found.of_token, outside=0.0)
            center = float((advantages.double() * share).sum() / found.tokens.numel())
            advantages = torch.where(inside, advantages - center, advantages)
        named = {
            "scaling_min": float(scaling.min()),
            "scaling_max": float(scaling.max()),
            "scaling_std": float(scaling.std(correction=0)),
            "bonus_mean": float(bonus.mean()),
            "center": center,
        }
        return advantages, named | entropy_metrics(found.mean_entropy, inputs.group[found.row])

    def factors(self, inputs: AdvantageInputs) -> Tensor:
        """(B, T) factors of tokens without bonus and centring, 1 for those of no response."""
        found = inputs.responses
        scaling = self._scaling_and_clarity(found.mean_entropy)[0] if found.tokens.numel() else found.mean_entropy
        return token_values(scaling, found.of_token, outside=1.0)

    def _scaling_and_clarity(self, mean_entropy: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) g and f of responses."""
        lowest, spread = mean_entropy.min(), mean_entropy.max() - mean_entropy.min()
        normalised = (mean_entropy - lowest) / (spread if spread > 0 else 1.0)
        weight = torch.exp(-self.k * normalised)
        return weight / weight.mean(), torch.exp(-self.k_future * normalised)


def _of_next(values: Tensor, row: Tensor) -> Tensor:
    """(N,) value of the next response of the same row, 0 after the last one."""
    following = torch.zeros_like(values)
    following[:-1] = torch.where(row[1:] == row[:-1], values[1:], torch.zeros_like(values[1:]))
    return following
