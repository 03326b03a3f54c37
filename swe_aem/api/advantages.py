"""`advantages`: what the tokens of trajectories are worth, for a training loop of your own."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from swe_aem.advantage.config import ADVANTAGES, advantage_of
from swe_aem.advantage.inputs import AdvantageEstimator
from swe_aem.core import Trajectory
from swe_aem.errors import UserError
from swe_aem.extras import needs

if TYPE_CHECKING:
    from torch import Tensor


def advantages(
    trajectories: Sequence[Trajectory],
    entropies: "Sequence[Tensor]",
    *,
    advantage: AdvantageEstimator | type[AdvantageEstimator] | Mapping[str, Any] | str = "aem",
) -> "tuple[list[Tensor], dict[str, float]]":
    """The advantage of each token of B trajectories by an advantage estimator, for a training loop of your own.

    Trajectories of one task are a group. What counts and what is trained is decided by the outcome, as in `train`.
    Needs the extra `transformers`.

    Args:
        trajectories: whole groups, as a rollout stored them.
        entropies: for each trajectory (T,), where T is the length of its `token_ids`: the entropy, in nats, of the
            distribution that the policy had for each token; what stands at tokens that were not sampled is not read.
        advantage: what `train` takes: `aem`, the name of another estimator, its settings with the name as
            `estimator`, or an estimator of your own. Log-probabilities are those that were stored.

    Returns:
        For each trajectory (T,) float64, 0 at every token that is not trained; and the estimator's metrics.

    Raises:
        errors.UserError: tensors, trajectories or settings do not fit.
    """
    with needs("transformers"):
        import torch

        from swe_aem.advantage.estimators import estimate, estimator_of
        from swe_aem.train.analysis.stored import group_tensors, inputs_of

    _require_fitting(trajectories, entropies)
    config = advantage_of(ADVANTAGES.setting_of(advantage))
    numbers = {task_id: number for number, task_id in enumerate(dict.fromkeys(one.task_id for one in trajectories))}
    as_in_training: Any = {"compact_filtering": True, "limits_reward": "graded"}
    rows = [row for one in trajectories for row in group_tensors(numbers[one.task_id], [one], **as_in_training)]
    scores = [
        [(entropy.detach().cpu()[slice(*span)], stored) for span, stored in zip(row.spans, row.logprobs, strict=True)]
        for row, entropy in zip(rows, entropies, strict=True)
    ]
    inputs = inputs_of(rows, scores)
    found, metrics = estimate(estimator_of(config), inputs, config.estimator)
    values = found if found.dim() == 2 else found.unsqueeze(1).expand(inputs.response_of_token.shape)
    placed = []
    for number, (row, one) in enumerate(zip(rows, trajectories, strict=True)):
        tokens = torch.zeros(len(one.token_ids), dtype=values.dtype)
        sampled = torch.cat([torch.arange(*span) for span in row.spans] or [torch.arange(0)])
        tokens[sampled] = values[number, : sampled.numel()]
        placed.append(tokens)
    return placed, metrics


def _require_fitting(trajectories: Sequence[Trajectory], entropies: "Sequence[Tensor]") -> None:
    if len(trajectories) != len(entropies):
        raise UserError(
            f"{len(trajectories)} trajectories and {len(entropies)} tensors of entropies: give one for each"
        )
    for one, entropy in zip(trajectories, entropies, strict=True):
        if not one.token_exact:
            raise UserError(f"{one.id} has no token ids (its policy is a chat API), so nothing can be trained on it")
        if tuple(entropy.shape) != (len(one.token_ids),):
            shape = f"({len(one.token_ids)},)"
            raise UserError(f"{one.id}: entropies of shape {tuple(entropy.shape)}; give {shape}, one per token")
