"""Held-out evaluation: sampled and greedy pass@1 with intervals, for all tasks and for each part of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swe_aem.core.base import Frozen
from swe_aem.errors import UserError
from swe_aem.evaluate.rates import clustered
from swe_aem.evaluate.score import TaskScore, score
from swe_aem.rollout import RolloutConfig
from swe_aem.store import Store
from swe_aem.train.config import HeldoutConfig, TrainConfig


class Rates(Frozen):
    """What one evaluation says; rates in 0..1 with 95 % intervals over tasks."""

    tasks: int
    pass_at_1: float
    """Sampled at the training temperature."""
    low: float
    high: float
    greedy: float | None = None
    greedy_low: float | None = None
    greedy_high: float | None = None
    faults: int = 0
    """Trajectories without a verdict for reasons of ours; in no rate."""


class Heldout(Rates):
    """An evaluation with its parts."""

    parts: dict[str, Rates] = {}


def heldout_rollout(config: TrainConfig, *, greedy: bool) -> RolloutConfig:
    """The rollout that evaluates: as in training, on held-out tasks."""
    heldout = config.heldout or HeldoutConfig()
    native = config.rollout.native
    if greedy:
        native = native.model_copy(update={"temperature": 0.0})
    update = {
        "tasks": heldout.tasks or config.rollout.tasks,
        "split": heldout.split,
        "limit": heldout.limit,
        "ids": None,
        "lock": None,
        "group_size": 1 if greedy else heldout.samples,
        "oversample": 0,
        "early_completion": False,
        "native": native,
    }
    return config.rollout.model_copy(update=update)


def judge(sampled: Path, greedy: Path | None, labels: Mapping[str, Mapping[str, str]]) -> Heldout:
    """Rates of the stores of an evaluation; `labels` says which part a task belongs to. A part without a verdict is
    left out; raises `UserError` if there is none at all."""
    of_sampled, of_greedy = _scores(sampled), _scores(greedy) if greedy else {}
    judged = [id for id, one in of_sampled.items() if one.samples]
    if not judged:
        raise UserError(f"{sampled}: no trajectory of the evaluation has a verdict, so there are no held-out rates")
    parts = sorted({labels[id]["part"] for id in judged if "part" in labels.get(id, {})})
    whole = _rates(of_sampled, of_greedy)
    return Heldout(
        **whole,
        parts={
            part: Rates(**_rates(_only(of_sampled, part, labels), _only(of_greedy, part, labels))) for part in parts
        },
    )


def _scores(directory: Path) -> dict[str, TaskScore]:
    return {task.task_id: task for task in score(Store(directory).trajectories()).tasks}


def _only(scores: Mapping[str, TaskScore], part: str, labels: Mapping[str, Mapping[str, str]]) -> dict[str, TaskScore]:
    return {id: one for id, one in scores.items() if labels.get(id, {}).get("part") == part}


def _rates(sampled: Mapping[str, TaskScore], greedy: Mapping[str, TaskScore]) -> dict[str, Any]:
    judged = [one for one in sampled.values() if one.samples]
    estimate = clustered([one.rate for one in judged], sum(one.samples for one in judged))
    figures: dict[str, Any] = {
        "tasks": len(judged),
        "pass_at_1": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "faults": sum(one.faults for one in (*sampled.values(), *greedy.values())),
    }
    best = [one for one in greedy.values() if one.samples]
    if best:
        estimate = clustered([one.rate for one in best], len(best))
        figures |= {"greedy": estimate.value, "greedy_low": estimate.low, "greedy_high": estimate.high}
    return figures
