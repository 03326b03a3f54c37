"""Advantages of stored groups, computed again by any estimator: no policy, no GPU.

A store has the log-probabilities of sampled tokens, not the entropies of the distributions that they came from. A
token's surprisal stands in for its entropy: an unbiased but noisy estimate, and noise widens a group's range. What
comes out here differs from what a trainer computes, most in short responses. The store is one batch.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from swe_aem.advantage.baselines import BASELINES
from swe_aem.advantage.config import AdvantageConfig, label_of
from swe_aem.advantage.estimators import base_name, estimator_of
from swe_aem.advantage.inputs import AdvantageEstimator
from swe_aem.core.base import Frozen
from swe_aem.train.analysis.stored import Modulation, TrajectoryTensors, inputs_of, modulation


class Replay(Frozen):
    """The advantages of a store under one setting, in numbers."""

    name: str
    settings: dict[str, Any]
    """The estimator's settings; empty for one that has none."""
    responses: int
    groups: int
    """Groups with trained responses."""
    zero_variance_groups: int
    """Zero-variance groups among them: a baseline gives them no advantage."""
    alpha_min: float
    alpha_max: float
    alpha_std: float
    """Standard deviation of the factors of responses; the two before are their extremes."""
    unmodulated_share: float
    """Share of responses whose factor is exactly 1."""
    moved: float
    """Mean of |A - A_base| over the mean of |A_base|: how much of the advantage is shifted; 0 if there is none."""
    confident_mistakes: float
    """Mean factor of responses with negative advantage: above 1, mistakes that the policy was sure of weigh more."""
    confident_successes: float
    """Mean factor of responses with positive advantage."""
    metrics: dict[str, float]
    """The estimator's own metrics."""


class Replayed(NamedTuple):
    """A setting's numbers, and what they are made of."""

    replay: Replay
    modulation: Modulation


def comparison(trajectories: Sequence[TrajectoryTensors], chosen: AdvantageConfig) -> list[Replayed]:
    """The chosen estimator beside the advantages that it modulates, and the variants of it that it knows (`variants`),
    such as the ablations of a paper."""
    estimator = estimator_of(chosen)
    inputs = inputs_of(trajectories, [[(-one, one) for one in trajectory.logprobs] for trajectory in trajectories])
    found = []
    for name, one in _settings(estimator, label_of(chosen)):
        result = modulation(one, inputs, name)
        found.append(Replayed(_numbers(trajectories, name, one, result), result))
    return found


def _settings(estimator: AdvantageEstimator, label: str) -> Iterator[tuple[str, AdvantageEstimator]]:
    yield "base", BASELINES[base_name(estimator)]
    yield label, estimator
    yield from getattr(estimator, "variants", lambda: ())()


def _numbers(
    trajectories: Sequence[TrajectoryTensors], name: str, estimator: AdvantageEstimator, found: Modulation
) -> Replay:
    base, advantage, factor = found.base, found.advantage, found.factor
    groups = {one.group for one in trajectories if one.spans}
    rewards = [{one.reward for one in trajectories if one.group == group and one.counts} for group in groups]
    total = float(base.abs().mean())
    dump: Any = getattr(estimator, "model_dump", None)
    return Replay(
        name=name,
        settings=dump(mode="json") if dump is not None else {},
        responses=factor.numel(),
        groups=len(groups),
        zero_variance_groups=sum(len(one) == 1 for one in rewards),
        alpha_min=float(factor.min()),
        alpha_max=float(factor.max()),
        alpha_std=float(factor.std(correction=0)),
        unmodulated_share=float((factor == 1).double().mean()),
        moved=float((advantage - base).abs().mean()) / total if total else 0.0,
        confident_mistakes=_mean(factor[base < 0]),
        confident_successes=_mean(factor[base > 0]),
        metrics=found.metrics,
    )


def table(trajectories: Sequence[TrajectoryTensors], found: Sequence[Replayed]) -> list[dict[str, object]]:
    """A row per response: where it is, its surprisal and reward, and its base advantage, advantage and factor in each
    setting."""
    places = [(one, turn) for one in trajectories for turn in range(len(one.spans))]
    return [
        {
            "task_id": one.task_id,
            "sample": one.sample,
            "response": turn,
            "surprisal": -float(one.logprobs[turn].double().mean()),
            "reward": one.reward,
            **{f"{replay.name}: base": float(made.base[index]) for replay, made in found},
            **{f"{replay.name}: advantage": float(made.advantage[index]) for replay, made in found},
            **{f"{replay.name}: alpha": float(made.factor[index]) for replay, made in found},
        }
        for index, (one, turn) in enumerate(places)
    ]


def _mean(values: Tensor) -> float:
    return float(values.mean()) if values.numel() else 1.0
