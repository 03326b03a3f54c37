"""Stored trajectories as training sees them, and what an advantage estimator is given of them: no trainer, no GPU."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from swe_aem.advantage.estimators import base_advantages, estimate
from swe_aem.advantage.inputs import AdvantageEstimator, AdvantageInputs
from swe_aem.advantage.responses import responses
from swe_aem.core import Trajectory
from swe_aem.core.outcome import LimitsReward
from swe_aem.errors import UserError
from swe_aem.rollout import block_size, read_manifest, require_token_ids
from swe_aem.store import existing_store
from swe_aem.train.steps import cut
from swe_aem.train.training_row import TrainingRow, training_row

TokenScores = tuple[Tensor, Tensor]
"""(n,) entropies and (n,) log-probabilities of a response's n tokens."""


class TrajectoryTensors(NamedTuple):
    """A stored trajectory for scoring and advantages. One that is not trained has no tokens and no responses."""

    task_id: str
    sample: int
    group: int
    """Numbered over the store."""
    reward: float
    """NaN if it does not count."""
    response_rewards: tuple[float, ...] | None
    """What each response is paid; None if it is one reward for all."""
    weight: float
    token_ids: Tensor
    """(T,) int32: up to the end of the last response."""
    spans: tuple[tuple[int, int], ...]
    """Start and end of each response, half-open, ascending; none starts at 0."""
    versions: tuple[int, ...]
    """Version of the weights that sampled the first token of each response."""
    logprobs: tuple[Tensor, ...]
    """Stored log-probabilities of each response's tokens, (n,) float32."""
    stops: frozenset[int]
    """Tokens that ended a response by themselves."""

    @property
    def counts(self) -> bool:
        """Does it count in the baseline of its group?"""
        return not math.isnan(self.reward)


def stored_groups(directory: Path) -> Iterator[tuple[str, tuple[Trajectory, ...]]]:
    """Task id and trajectories of each group of a store, oversampled ones cut as in training, which rolls a
    task out once per epoch. Raises `UserError` if there is no such directory."""
    store = existing_store(directory)
    manifest = read_manifest(directory)
    if manifest is None:
        return store.groups()
    size = manifest.config.group_size
    return ((task_id, cut(members, size)) for task_id, members in store.groups(block_size(manifest.config)))


def read_trajectories(
    directory: Path,
    *,
    version: int | None = None,
    compact_filtering: bool = True,
    limits_reward: LimitsReward = "graded",
) -> list[TrajectoryTensors]:
    """The trajectories of `stored_groups`; with `version`, of groups whose trained responses are all of that version.

    `compact_filtering` leaves out what ended at a limit, and `limits_reward` is its reward in the baseline. Raises
    `UserError` if nothing among them is trained, and for a store without token ids.
    """
    trajectories: list[TrajectoryTensors] = []
    seen: set[int] = set()
    for group, (_, members) in enumerate(stored_groups(directory)):
        for one in members:
            require_token_ids(directory, one)
        found = group_tensors(group, members, compact_filtering=compact_filtering, limits_reward=limits_reward)
        trained = (one.responses[: len(tensors.spans)] for one, tensors in zip(members, found, strict=True))
        versions = {number for responses in trained for response in responses for number in response.versions}
        seen |= versions
        if version is None or versions == {version}:
            trajectories += found
    if not any(one.spans for one in trajectories):
        if seen and version is not None:
            raise UserError(
                f"{directory}: has no group whose trained responses are all of version {version}; it has responses of "
                f"{', '.join(map(str, sorted(seen)))}"
            )
        raise UserError(
            f"{directory}: has no trained response (gold and noop agents sample none; of a training run, name "
            "the directory `rollouts`)"
        )
    return trajectories


def group_tensors(
    number: int, members: Sequence[Trajectory], *, compact_filtering: bool, limits_reward: LimitsReward
) -> list[TrajectoryTensors]:
    """The trajectories of one group, which has that number; the settings are as in `read_trajectories`."""
    rows = [training_row(one, compact_filtering=compact_filtering, limits_reward=limits_reward) for one in members]
    return [_tensors(number, one, row) for one, row in zip(members, rows, strict=True)]


def _tensors(group: int, trajectory: Trajectory, row: TrainingRow) -> TrajectoryTensors:
    responses = trajectory.responses if any(row["env_mask"]) else ()
    if responses and responses[0].start == 0:
        raise UserError(
            f"{trajectory.id} begins with a sampled token; without a prompt there is nothing to score it by"
        )
    return TrajectoryTensors(
        task_id=trajectory.task_id,
        sample=trajectory.sample,
        group=group,
        reward=math.nan if row["reward"] is None else row["reward"],
        response_rewards=None if row["response_rewards"] is None else tuple(row["response_rewards"]),
        weight=trajectory.weight,
        token_ids=torch.tensor(trajectory.token_ids[: responses[-1].end if responses else 0], dtype=torch.int32),
        spans=tuple((response.start, response.end) for response in responses),
        versions=tuple(response.version for response in responses),
        logprobs=tuple(torch.tensor(response.logprobs, dtype=torch.float32) for response in responses),
        stops=frozenset(trajectory.token_ids[one.end - 1] for one in responses if one.finish_reason == "stop"),
    )


class Modulation(NamedTuple):
    """What an estimator makes of the N trained responses of some trajectories, in the order of rows and responses."""

    base: Tensor
    """(N,) float64: the advantages that it modulates, as `base_advantages` says, times weights."""
    advantage: Tensor
    """(N,) float64: mean over a response's tokens."""
    factor: Tensor
    """(N,) float64: what it multiplies them by, where it says so (`factors`); otherwise the ratio of the two, and 1
    where there is no advantage to modulate."""
    metrics: dict[str, float]


def modulation(estimator: AdvantageEstimator, inputs: AdvantageInputs, name: str) -> Modulation:
    """An estimator's work, response by response."""
    found = estimate(estimator, inputs, name)
    values = (
        found.values if found.values.dim() == 2 else found.values.unsqueeze(1).expand(inputs.response_of_token.shape)
    )
    base = base_advantages(estimator, inputs) * inputs.weight.unsqueeze(1)
    base, values = _of_responses(base, inputs), _of_responses(values, inputs)
    factors = getattr(estimator, "factors", None)
    if factors is not None:
        factor = _of_responses(factors(inputs), inputs)
    else:
        factor = torch.where(base == 0, torch.ones_like(base), values / torch.where(base == 0, 1.0, base))
    return Modulation(base, values, factor, found.metrics)


def inputs_of(trajectories: Sequence[TrajectoryTensors], scores: Sequence[Sequence[TokenScores]]) -> AdvantageInputs:
    """The trajectories as one batch. `scores` has, per trajectory, those of its responses, and none for one that is
    left out; T counts sampled tokens alone."""
    lengths = [[entropy.numel() for entropy, _ in one] for one in scores]
    rows, width = len(trajectories), max((sum(one) for one in lengths), default=0)
    numbers = torch.full((rows, width), -1)
    entropy, logprob = torch.zeros(rows, width), torch.zeros(rows, width)
    for row, several in enumerate(scores):
        if several:
            total = sum(lengths[row])
            numbers[row, :total] = torch.arange(len(several)).repeat_interleave(torch.tensor(lengths[row]))
            entropy[row, :total] = torch.cat([one for one, _ in several])
            logprob[row, :total] = torch.cat([one for _, one in several])
    paid = [one.response_rewards for one in trajectories]
    most = max((len(one) for one in paid if one is not None), default=0)
    table = [[*(one or ()), *[math.nan] * (most - len(one or ()))] for one in paid]
    return AdvantageInputs(
        reward=torch.tensor([one.reward for one in trajectories], dtype=torch.float64),
        group=torch.tensor([one.group for one in trajectories]),
        response_of_token=numbers,
        weight=torch.tensor([one.weight for one in trajectories], dtype=torch.float64),
        scores=lambda: (entropy, logprob),
        response_rewards=torch.tensor(table, dtype=torch.float64) if most else None,
    )


def _of_responses(values: Tensor, inputs: AdvantageInputs) -> Tensor:
    """(N,) float64: means of (B, T) values over the tokens of each trained response."""
    return responses(values, inputs.response_of_token).mean_entropy
