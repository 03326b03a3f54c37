"""`AdvantageInputs`: what an advantage estimator is given. Importable without torch.

An estimator is a function, or an instance of a class that is called like one:

    def estimator(inputs: AdvantageInputs) -> Tensor                                 # (B,), or (B, T)
    def estimator(inputs: AdvantageInputs) -> tuple[Tensor, dict[str, float]]        # and metrics

B are all trajectories that an update trains on, in whole groups, whatever process trains them; every process calls the
estimator on the same inputs and takes its own rows of the result. All tensors are on the CPU.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from swe_aem.advantage.responses import Responses


@dataclass(frozen=True)
class AdvantageInputs:
    """The B trajectories of a batch as tensors, padded on the right to T tokens from the first sampled one on. Where
    branches are trained on (`branches_per_trajectory`), their tokens stand behind those of their trajectory."""

    reward: "Tensor"
    """(B,) float32: of each trajectory; NaN where it does not count."""
    group: "Tensor"
    """(B,) long: number of the rollout group. Trajectories of a group are samples of one task."""
    response_of_token: "Tensor"
    """(B, T) long: which response of its trajectory a token belongs to, counted from 0; -1 for tokens that are not
    trained: those of tool answers, of trajectories that a limit ended, and padding."""
    weight: "Tensor"
    """(B,) float32: of the trajectory's task. What the estimator returns is multiplied by it."""
    scores: "Callable[[], tuple[Tensor, Tensor]]"
    """Makes `entropy` and `logprob`: the old policy's forward pass, which only estimators that ask for them cost."""
    response_rewards: "Tensor | None" = None
    """(B, R) float32: what each response is paid, which sums to `reward`; NaN where a trajectory has no such response,
    or one reward for all of them; responses of branches have none. None if no trajectory has any."""
    step: int = 0
    """Optimiser updates before this batch: with a seed, it makes random numbers that a resumed run repeats."""

    def copy(self) -> "AdvantageInputs":
        """The same with tensors of its own, for an estimator that may write into them."""
        return replace(
            self,
            reward=self.reward.clone(),
            group=self.group.clone(),
            response_of_token=self.response_of_token.clone(),
            weight=self.weight.clone(),
            response_rewards=None if self.response_rewards is None else self.response_rewards.clone(),
            scores=lambda: (self.entropy.clone(), self.logprob.clone()),
        )

    @property
    def counts(self) -> "Tensor":
        """(B,) bool: False for infrastructure failures and broken tasks, which are in no mean; their advantage is 0."""
        return ~self.reward.isnan()

    @property
    def entropy(self) -> "Tensor":
        """(B, T) float32: entropy of the distribution that each token was drawn from, after the temperature, nats."""
        return self._scores[0]

    @property
    def logprob(self) -> "Tensor":
        """(B, T) float32: log-probability of each token under the policy before the step's updates."""
        return self._scores[1]

    @cached_property
    def responses(self) -> "Responses":
        """The N trained responses of the batch, with their mean entropies."""
        from swe_aem.advantage.responses import responses

        return responses(self.entropy, self.response_of_token)

    @cached_property
    def _scores(self) -> "tuple[Tensor, Tensor]":
        return self.scores()


class AdvantageEstimator(Protocol):
    """A function from `AdvantageInputs` to advantages, (B,) or (B, T), which may have metrics with them."""

    def __call__(self, inputs: AdvantageInputs, /) -> "Tensor | tuple[Tensor, dict[str, float]]": ...
