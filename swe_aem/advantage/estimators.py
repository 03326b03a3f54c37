"""Estimators by configuration: made, called, and what they return checked, for the trainer and for a store."""

from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor

from swe_aem.advantage.baselines import BASELINES
from swe_aem.advantage.config import ADVANTAGES, AdvantageConfig, Baseline
from swe_aem.advantage.inputs import AdvantageEstimator, AdvantageInputs
from swe_aem.errors import UserError
from swe_aem.suggest import did_you_mean


class Advantages(NamedTuple):
    """What an estimator made of a batch."""

    values: Tensor
    """(B,) or (B, T) of the rewards' dtype: times the weights of tasks, and 0 in rows that do not count."""
    metrics: dict[str, float]
    """By names of the estimator's own."""


def estimator_of(config: AdvantageConfig) -> AdvantageEstimator:
    """The estimator that a section `advantage` names. Raises `UserError` as `ExtensionPoint.function` does."""
    estimator: Any = ADVANTAGES.function(config.of_estimator(), "inputs")
    return estimator


def estimate(estimator: AdvantageEstimator, inputs: AdvantageInputs, name: str) -> Advantages:
    """Advantages and metrics of a batch. Raises `UserError` for a result that no trainer could use; an exception of the
    estimator is raised as it is."""
    with torch.no_grad():
        found: Any = estimator(inputs.copy())
    values: Any
    values, metrics = found if isinstance(found, tuple) and len(found) == 2 else (found, {})
    _require(values, metrics, inputs, f"advantage estimator {name}")
    values = values.detach().to("cpu", inputs.reward.dtype)
    per_row = (slice(None), *(None for _ in range(values.dim() - 1)))
    weighted = values * inputs.weight[per_row]
    return Advantages(
        weighted.masked_fill(~inputs.counts[per_row], 0.0), {one: float(value) for one, value in metrics.items()}
    )


def base_name(estimator: AdvantageEstimator) -> Baseline:
    """Name of the advantages that an estimator modulates: what it has as `baseline`, leave-one-out if it has none.
    Raises `UserError` for one that does not exist."""
    name: Any = getattr(estimator, "baseline", "leave_one_out")
    if name not in BASELINES:
        known = ", ".join(BASELINES)
        raise UserError(
            f"no baseline {name!r}{did_you_mean(str(name), BASELINES)}; an estimator's baseline is one of {known}"
        )
    return name


def base_advantages(estimator: AdvantageEstimator, inputs: AdvantageInputs) -> Tensor:
    """(B, T): the advantages that an estimator modulates, not multiplied by weights."""
    base = BASELINES[base_name(estimator)](inputs)
    return base.unsqueeze(1).expand(inputs.response_of_token.shape) if base.dim() == 1 else base


def _require(values: Any, metrics: Any, inputs: AdvantageInputs, who: str) -> None:
    rows, tokens = inputs.response_of_token.shape
    if not isinstance(values, Tensor):
        raise UserError(f"{who} returned {type(values).__name__}: return a tensor, or a tensor and a dict of metrics")
    if tuple(values.shape) not in ((rows,), (rows, tokens)):
        raise UserError(
            f"{who} returned a tensor of shape {tuple(values.shape)}: return ({rows},), one number per trajectory, or "
            f"({rows}, {tokens}), one per token"
        )
    if not isinstance(metrics, dict):
        raise UserError(f"{who} returned {type(metrics).__name__} as metrics: return a dict of names to numbers")
    for name, value in metrics.items():
        one_number = value.numel() == 1 if isinstance(value, Tensor) else isinstance(value, Real)
        if not (isinstance(name, str) and one_number):
            raise UserError(f"{who} returned a metric {name!r} that is {value!r:.60}: give a name and one number")
    wrong = ~torch.isfinite(values) & (inputs.counts if values.dim() == 1 else inputs.counts.unsqueeze(1)).to(
        values.device
    )
    if bool(wrong.any()):
        place = ", ".join(map(str, wrong.nonzero()[0].tolist()))
        raise UserError(
            f"{who} returned a value that is not finite at [{place}]; rewards are NaN in trajectories that do not "
            "count, so compute means over inputs.counts"
        )
