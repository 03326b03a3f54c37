"""Adaptive Entropy Modulation (AEM), arXiv 2605.00425: response-level entropy rescales advantages.

For the responses of a prompt's rollout group, with H the mean over a response's tokens of the old policy's entropy:

    H~    = (H - min H) / (max H - min H)              min and max over the group's responses
    alpha = exp(-lam H~) / mean exp(-lam H~)           mean over the same responses
    A     = alpha A_base                               for every token of the response

and alpha = 1 in a group whose entropies range over less than `min_range`. Only trained responses take part. The paper's
ablations are settings: the reversed direction is `lam < 0`, and `scope` is what counts as one group.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from swe_aem.advantage.baselines import BASELINES
from swe_aem.advantage.config import SCOPES, AEMConfig
from swe_aem.advantage.groups import extremes, require_finite, shuffled, totals
from swe_aem.advantage.inputs import AdvantageInputs
from swe_aem.advantage.responses import entropy_metrics, token_advantages, token_values


class AEM(AEMConfig):
    """AEM as an estimator."""

    def __call__(self, inputs: AdvantageInputs) -> tuple[Tensor, dict[str, float]]:
        """(B, T) advantages, and the metrics of factors and entropies."""
        found, alpha = inputs.responses, self.of_responses(inputs)
        named = metrics(alpha, found.tokens) | entropy_metrics(found.mean_entropy, inputs.group[found.row])
        return token_advantages(BASELINES[self.baseline](inputs), alpha, found.of_token), named

    def factors(self, inputs: AdvantageInputs) -> Tensor:
        """(B, T) factors of tokens, 1 for those of no response, whatever the advantages are."""
        return token_values(self.of_responses(inputs), inputs.responses.of_token, outside=1.0)

    def of_responses(self, inputs: AdvantageInputs) -> Tensor:
        """(N,) factors of responses. A large prime keeps the shuffles of all seeds and steps apart."""
        found = inputs.responses
        group = inputs.group[found.row]
        scope = {"trajectory": found.row, "group": group, "batch": torch.zeros_like(group)}[self.scope]
        lam = {"paper": self.lam, "reversed": -self.lam}[self.direction]
        alpha = coefficients(found.mean_entropy, scope, lam=lam, min_range=self.min_range)
        if self.shuffle:
            alpha = shuffled(alpha, scope, torch.Generator().manual_seed(self.seed * 1_000_003 + inputs.step))
        return alpha

    def variants(self) -> Iterator[tuple[str, "AEM"]]:
        """The paper's ablations of these settings, by name."""
        change = {"reversed": {"direction": "reversed"}, "shuffled": {"shuffle": True}}
        change |= {f"scope {one}": {"scope": one} for one in SCOPES if one != self.scope}
        yield from ((name, self.model_copy(update=one)) for name, one in change.items())


def coefficients(mean_entropy: Tensor, group: Tensor, *, lam: float = 1.0, min_range: float = 0.1) -> Tensor:
    """The factor alpha of each response: positive, with mean 1 over each group; exactly 1 for `lam` 0, and in groups
    whose entropies range over less than `min_range` nats. No gradient flows through it. `mean_entropy` is
    (N,) float, nats; `group` is (N,) long, any numbers in any order. Returns (N,) of the dtype of `mean_entropy`.
    Raises `ValueError` for values that are not finite.
    """
    values = mean_entropy.detach().double()
    require_finite(values, "mean_entropy")
    lowest, highest, member = extremes(values, group)
    spread = (highest - lowest)[member]
    normalised = (values - lowest[member]) / torch.where(spread > 0, spread, torch.ones_like(spread))
    weight = torch.exp(-lam * normalised)
    alpha = weight / (totals(weight, group) / totals(torch.ones_like(weight), group))
    return torch.where(spread < min_range, torch.ones_like(alpha), alpha).to(mean_entropy.dtype)


def metrics(alpha: Tensor, tokens: Tensor) -> dict[str, float]:
    """What the factors of responses, (N,), of so many tokens, (N,), are like, in numbers; none without responses."""
    if not alpha.numel():
        return {}
    found = {"alpha_min": alpha.min(), "alpha_max": alpha.max(), "alpha_std": alpha.std(correction=0)}
    found["alpha_token_mean"] = (alpha.double() * tokens.double()).sum() / tokens.double().sum()
    found["unmodulated_share"] = (alpha == 1).double().mean()
    return {name: float(value) for name, value in found.items()}
