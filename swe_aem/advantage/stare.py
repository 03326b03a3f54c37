"""Surprisal-guided token-level advantage reweighting (STARE), arXiv 2606.19236: against the collapse of entropy.

Among the trained tokens of a batch with positive advantage, the `top_share` of highest surprisal -log pi_old are L+;
those among the tokens of negative advantage are L-. Where the mean token entropy of the batch is below
`target_entropy`:

    A = amplify A_base        in L+      (W of the paper, above 1): reinforcing rare tokens raises entropy
    A = attenuate A_base      in L-      (M of the paper, below 1 in variant C2): punishing rare tokens lowers it

and A = A_base elsewhere, and everywhere in batches of higher entropy. The authors' code ranks tokens within a
micro-batch by the policy that is being updated; here it is the whole batch and the policy before the update, so that
neither the number of processes nor the size of a micro-batch changes a factor.
"""

import math

import torch
from torch import Tensor

from swe_aem.advantage.baselines import BASELINES
from swe_aem.advantage.config import STAREConfig
from swe_aem.advantage.inputs import AdvantageInputs


class STARE(STAREConfig):
    """STARE as an estimator."""

    def __call__(self, inputs: AdvantageInputs) -> tuple[Tensor, dict[str, float]]:
        """(B, T) advantages, and metrics of the gate and the reweighted tokens."""
        base = BASELINES[self.baseline](inputs)
        base = base.unsqueeze(1).expand(inputs.response_of_token.shape) if base.dim() == 1 else base
        trained = inputs.response_of_token >= 0
        if not bool(trained.any()):
            return base, {}
        factor, named = self._weigh(base, inputs)
        named["mean_factor"] = float(factor[trained].double().mean())
        return base * factor, named

    def _weigh(self, base: Tensor, inputs: AdvantageInputs) -> tuple[Tensor, dict[str, float]]:
        """(B, T) factors of advantages (B, T)."""
        trained = inputs.response_of_token >= 0
        named, active = {}, True
        if self.target_entropy is not None:
            named["token_entropy"] = float(inputs.entropy[trained].double().mean())
            active = named["token_entropy"] < self.target_entropy
        named["gate_on"] = float(active)
        factor = torch.ones_like(base)
        if active:
            positive = self._most_surprising(inputs.logprob, trained & (base > 0))
            negative = self._most_surprising(inputs.logprob, trained & (base < 0))
            factor = factor.masked_fill(positive, self.amplify).masked_fill(negative, self.attenuate)
        named["reweighted_share"] = float((factor[trained] != 1).double().mean())
        return factor, named

    def _most_surprising(self, logprob: Tensor, among: Tensor) -> Tensor:
        """(B, T) bool: the `top_share` of lowest log-probability, rounded up; of equal ones the first."""
        places = among.flatten().nonzero().squeeze(1)
        chosen = torch.zeros_like(among).flatten()
        number = math.ceil(self.top_share * places.numel() - 1e-9)
        order = torch.argsort(logprob.flatten()[places], stable=True)
        chosen[places[order[:number]]] = True
        return chosen.view_as(among)
