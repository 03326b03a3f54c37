"""Held-out evaluation: sampled and greedy pass@1 with intervals, for all tasks and for each part of them."""

from collections.abc import Mapping
from pathlib import Path

from swe_aem.errors import UserError
from swe_aem.evaluate import TaskScore, clustered, score
from swe_aem.rollout import RolloutConfig
from swe_aem.store import Store
from swe_aem.train.config import HeldoutConfig, TrainConfig
from swe_aem.train.records import HeldoutRates, HeldoutScore


def heldout_rollout(config: TrainConfig, *, greedy: bool) -> RolloutConfig:
    """The rollout that evaluates: as in training, on held-out tasks."""
    heldout = config.heldout or HeldoutConfig()
    native = config.rollout.native
    is_same_set = heldout.tasks in (None, config.rollout.tasks)
    if greedy:
        native = native.model_copy(update={"temperature": 0.0})
    update = {
        "tasks": heldout.tasks or config.rollout.tasks,
        "family": heldout.family or (config.rollout.family if is_same_set else None),
        "split": heldout.split,
        "limit": heldout.limit,
        "ids": None,
        "lock": None,
        "max_passing_mutants": None,
        "group_size": 1 if greedy else heldout.samples,
        "oversample": 0,
        "early_completion": False,
        "native": native,
    }
    return config.rollout.model_copy(update=update)


def evaluations(config: TrainConfig, step: int, *, greedy: bool) -> dict[str, RolloutConfig]:
    """The rollouts that evaluate the policy after `step` steps, by the names of their stores, the sampled one first."""
    kinds = {"sampled": False, "greedy": True} if greedy else {"sampled": False}
    return {f"step-{step}-{kind}": heldout_rollout(config, greedy=one) for kind, one in kinds.items()}


def judge(sampled: Path, greedy: Path | None, labels: Mapping[str, Mapping[str, str]]) -> HeldoutScore:
    """Rates of the stores of an evaluation; `labels` says which part a task belongs to. A part without a verdict is
    left out; raises `UserError` if there is no verdict at all."""
    of_sampled, of_greedy = _scores(sampled), _scores(greedy) if greedy else {}
    judged = [id for id, one in of_sampled.items() if one.samples]
    if not judged:
        raise UserError(f"{sampled}: no trajectory of the evaluation has a verdict, so there are no held-out rates")
    parts = sorted({labels[id]["part"] for id in judged if "part" in labels.get(id, {})})
    whole = _rates(of_sampled, of_greedy)
    return HeldoutScore(
        **{name: getattr(whole, name) for name in HeldoutRates.model_fields},
        parts={part: _rates(_only(of_sampled, part, labels), _only(of_greedy, part, labels)) for part in parts},
    )


def _scores(directory: Path) -> dict[str, TaskScore]:
    return {task.task_id: task for task in score(Store(directory).trajectories()).tasks}


def _only(scores: Mapping[str, TaskScore], part: str, labels: Mapping[str, Mapping[str, str]]) -> dict[str, TaskScore]:
    return {id: one for id, one in scores.items() if labels.get(id, {}).get("part") == part}


def _rates(sampled: Mapping[str, TaskScore], greedy: Mapping[str, TaskScore]) -> HeldoutRates:
    judged = [one for one in sampled.values() if one.samples]
    estimate = clustered([one.rate for one in judged], sum(one.samples for one in judged))
    found = HeldoutRates(
        tasks=len(judged),
        pass_at_1=estimate.value,
        low=estimate.low,
        high=estimate.high,
        faults=sum(one.faults for one in (*sampled.values(), *greedy.values())),
    )
    judged = [one for one in greedy.values() if one.samples]
    if not judged:
        return found
    estimate = clustered([one.rate for one in judged], len(judged))
    return found.model_copy(update={"greedy": estimate.value, "greedy_low": estimate.low, "greedy_high": estimate.high})
