"""Advantages of stored groups, computed again under other settings: no policy, no GPU.

A store has the log-probabilities of sampled tokens, not the entropies of the distributions that they came from. A
response's mean surprisal is an unbiased but noisy estimate of its mean entropy, and noise widens a group's range: what
comes out here differs from what a trainer computes, most in short responses.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from swe_aem.advantage.config import AdvantageConfig
from swe_aem.advantage.estimators import base_advantages, factors
from swe_aem.core import Trajectory
from swe_aem.core.base import Frozen
from swe_aem.core.outcome import LimitsReward
from swe_aem.errors import UserError
from swe_aem.rollout import block_size, read_manifest
from swe_aem.store import existing_store
from swe_aem.train.steps import cut
from swe_aem.train.training_row import TrainingRow, training_row


class StoredResponses(NamedTuple):
    """The N trained responses of a store, as columns."""

    task: tuple[str, ...]
    sample: Tensor
    """(N,) long."""
    turn: Tensor
    """(N,) long: the response's number in its trajectory."""
    row: Tensor
    """(N,) long: its trajectory, numbered over the store."""
    group: Tensor
    """(N,) long: its group, numbered over the store."""
    surprisal: Tensor
    """(N,) float64: mean over its tokens, nats."""
    reward: Tensor
    """(M,) float64: of all trajectories, NaN for those that do not count."""
    group_of_row: Tensor
    """(M,) long."""


class Replay(Frozen):
    """The advantages of a store under one setting, in numbers."""

    name: str
    settings: AdvantageConfig
    responses: int
    groups: int
    """Groups with trained responses."""
    zero_variance_groups: int
    """Zero-variance groups among them: no advantage, whatever the factors."""
    alpha_min: float
    alpha_max: float
    alpha_std: float
    unmodulated_share: float
    """Share of responses whose factor is exactly 1."""
    moved: float
    """Mean of |A - A_base| over the mean of |A_base|: how much of the advantage is shifted; 0 if there is none."""
    confident_mistakes: float
    """Mean factor of responses with negative advantage: above 1, mistakes that the policy was sure of weigh more."""
    confident_successes: float
    """Mean factor of responses with positive advantage."""


def read_responses(
    directory: Path, *, compact_filtering: bool = True, limits_reward: LimitsReward = "graded"
) -> StoredResponses:
    """Read a store as training does under these settings; raises `UserError` if it has nothing that could be trained
    on."""
    found = _Columns()
    for number, (task_id, members) in enumerate(stored_groups(directory)):
        for trajectory in members:
            row = training_row(trajectory, compact_filtering=compact_filtering, limits_reward=limits_reward)
            found.add(number, task_id, trajectory, row)
    if not found.surprisal:
        raise UserError(
            f"{directory}: has no trajectory with sampled tokens that count (gold and noop agents sample none)"
        )
    return found.stored()


def stored_groups(directory: Path) -> Iterator[tuple[str, tuple[Trajectory, ...]]]:
    """Task id and trajectories of each group of a store, oversampled ones cut as in training, which rolls a
    task out once per epoch. Raises `UserError` if there is no such directory."""
    store = existing_store(directory)
    manifest = read_manifest(directory)
    if manifest is None:
        return store.groups()
    size = manifest.config.group_size
    return ((task_id, cut(members, size)) for task_id, members in store.groups(block_size(manifest.config)))


class _Columns:
    """Grows the columns of `StoredResponses`."""

    def __init__(self) -> None:
        self.tasks: list[str] = []
        self.places: list[tuple[int, int, int, int]] = []
        self.surprisal: list[float] = []
        self.reward: list[float] = []
        self.group_of_row: list[int] = []

    def add(self, group: int, task_id: str, trajectory: Trajectory, row: TrainingRow) -> None:
        number = len(self.reward)
        self.reward.append(float("nan") if row["reward"] is None else row["reward"])
        self.group_of_row.append(group)
        trained = {turn for turn in row["response_of_token"] if turn >= 0}
        for turn, response in enumerate(trajectory.responses):
            if turn in trained:
                self.tasks.append(task_id)
                self.places.append((trajectory.sample, turn, number, group))
                self.surprisal.append(-sum(response.logprobs) / len(response.logprobs))

    def stored(self) -> StoredResponses:
        sample, turn, row, group = torch.tensor(self.places, dtype=torch.long).unbind(1)
        return StoredResponses(
            task=tuple(self.tasks),
            sample=sample,
            turn=turn,
            row=row,
            group=group,
            surprisal=torch.tensor(self.surprisal, dtype=torch.float64),
            reward=torch.tensor(self.reward, dtype=torch.float64),
            group_of_row=torch.tensor(self.group_of_row, dtype=torch.long),
        )


def replay(stored: StoredResponses, name: str, config: AdvantageConfig) -> Replay:
    """The numbers of one setting."""
    base, alpha = _advantages(stored, config)
    groups = stored.group.unique()
    rewards = [stored.reward[(stored.group_of_row == group) & ~stored.reward.isnan()] for group in groups]
    total = float(base.abs().mean())
    return Replay(
        name=name,
        settings=config,
        responses=alpha.numel(),
        groups=groups.numel(),
        zero_variance_groups=sum(int(reward.unique().numel() == 1) for reward in rewards),
        alpha_min=float(alpha.min()),
        alpha_max=float(alpha.max()),
        alpha_std=float(alpha.std(correction=0)),
        unmodulated_share=float((alpha == 1).double().mean()),
        moved=float((alpha * base - base).abs().mean()) / total if total else 0.0,
        confident_mistakes=_mean(alpha[base < 0]),
        confident_successes=_mean(alpha[base > 0]),
    )


def comparison(stored: StoredResponses, chosen: AdvantageConfig) -> list[Replay]:
    """The chosen settings beside the base and the paper's ablations of them."""
    change = chosen.model_copy
    variants: Iterable[tuple[str, AdvantageConfig]] = (
        ("base", change(update={"aem": False})),
        ("AEM", chosen),
        ("reversed", change(update={"direction": "reversed"})),
        ("shuffled", change(update={"shuffle": True})),
        *((f"scope {scope}", change(update={"scope": scope})) for scope in ("trajectory", "group", "batch")),
    )
    distinct = [(name, config) for name, config in variants if name != f"scope {chosen.scope}"]
    return [replay(stored, name, config) for name, config in distinct]


def table(stored: StoredResponses, configs: Sequence[tuple[str, AdvantageConfig]]) -> list[dict[str, object]]:
    """A row per response: where it is, its surprisal and reward, and its base advantage and factor in each setting."""
    columns = [(name, *_advantages(stored, one)) for name, one in configs]
    rewards = stored.reward[stored.row]
    return [
        {
            "task_id": task,
            "sample": int(stored.sample[index]),
            "response": int(stored.turn[index]),
            "surprisal": float(stored.surprisal[index]),
            "reward": float(rewards[index]),
            **{f"{name}: base": float(base[index]) for name, base, _ in columns},
            **{f"{name}: alpha": float(alpha[index]) for name, _, alpha in columns},
        }
        for index, task in enumerate(stored.task)
    ]


def _advantages(stored: StoredResponses, config: AdvantageConfig) -> tuple[Tensor, Tensor]:
    """(N,) base advantages and factors of the responses."""
    base = base_advantages(stored.reward, stored.group_of_row, config)[stored.row]
    return base, factors(stored.surprisal, stored.row, stored.group, config)


def _mean(values: Tensor) -> float:
    return float(values.mean()) if values.numel() else 1.0
