"""`credit_of`: what training made of a trajectory's responses: base advantage, factor α and advantage, where that can
be computed again from its group, and how far that is what training used.

Needs torch, which is imported when it is called. An estimator of the user's own is not called: looking at a run runs
none of its code.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from swe_aem.advantage.config import ADVANTAGES, AEMConfig, BaselineConfig
from swe_aem.core import Trajectory, TrajectoryKey
from swe_aem.errors import UserError
from swe_aem.extras import needs
from swe_aem.train.config import TrainConfig
from swe_aem.train.directory import CONFIG, stored_config
from swe_aem.view.found import Kind, Run


class ResponseCredit(NamedTuple):
    """What one response was trained with."""

    base: float
    """Advantage by the rewards of the group alone, times the weight of the task."""
    alpha: float
    advantage: float
    """Mean over its tokens."""


class Credit(NamedTuple):
    """What the responses of a trajectory were trained with."""

    responses: tuple[ResponseCredit | None, ...]
    """None for a response that is not trained."""
    estimator: str
    exact: bool
    """Are `alpha` and `advantage` what training used? `base` always is."""
    notes: tuple[str, ...]
    """What is exact and what is an estimate, one sentence each."""


def training_directory(run: Run) -> Path:
    """The directory of the training run that a run's trajectories were rolled out for. Raises `UserError` where they
    were not, so that nothing was trained on them."""
    if run.kind is Kind.TRAINING:
        return run.directory
    above = run.directory.parent
    if run.part_of is None or not (above / CONFIG).is_file():
        raise UserError(
            "Advantages are those of training, and nothing was trained on these trajectories. "
            f"`swe-aem replay-advantages {run.directory}` shows what an estimator would make of them."
        )
    return above


def credit_of(run: Run, group: Sequence[Trajectory], key: TrajectoryKey) -> Credit:
    """The credit of a trajectory by its whole `group`. Raises `UserError` where it cannot be computed: for what was not
    trained on, an estimator of the user's own, or without torch."""
    directory = training_directory(run)
    config = stored_config(directory)
    if not ADVANTAGES.is_builtin(config.advantage.estimator):
        raise UserError(
            f"The estimator {config.advantage.estimator} is no built-in one, and viewing runs no code of a run"
        )
    with needs("transformers", "do without α and advantages"):
        from swe_aem.advantage.estimators import estimator_of
        from swe_aem.train.analysis.stored import group_tensors, inputs_of, modulation
        from swe_aem.train.steps import cut, is_broken
    members = cut(tuple(group), config.rollout.group_size)
    if len(members) < config.rollout.group_size:
        raise UserError(
            f"Its group has {len(members)} of {config.rollout.group_size} trajectories so far, and advantages are "
            "those of the whole group"
        )
    if is_broken(members):
        raise UserError("The task is broken: the group was dropped, and nothing of it was trained on")
    at = next((n for n, one in enumerate(members) if one.key == key), None)
    if at is None:
        raise UserError("It is beyond the group's size (oversampling): not trained on")
    try:
        rows = group_tensors(0, members, compact_filtering=config.compact_filtering, limits_reward=config.limits_reward)
    except ValueError as error:  # e.g. a reward function failed, and the rewards are still to be paid
        raise UserError(f"Its group was not trained on: {error}") from None
    if not rows[at].spans:
        raise UserError("It was not trained on: it ended at a limit (compact filtering), or does not count")
    scores = [[(-one, one) for one in row.logprobs] for row in rows]
    found = modulation(estimator_of(config.advantage), inputs_of(rows, scores), config.advantage.estimator)
    first = sum(len(row.spans) for row in rows[:at])
    columns = [
        values[first : first + len(rows[at].spans)].tolist() for values in (found.base, found.factor, found.advantage)
    ]
    return Credit(
        responses=tuple(ResponseCredit(*one) for one in zip(*columns, strict=True)),
        estimator=config.advantage.estimator,
        exact=isinstance(config.advantage, BaselineConfig),
        notes=tuple(_notes(config)),
    )


def _notes(config: TrainConfig) -> list[str]:
    """What a reader has to know of the numbers."""
    chosen = config.advantage
    notes = ["The base advantage follows from the rewards of the group alone, as in training."]
    if not isinstance(chosen, BaselineConfig):
        notes.append(
            "α and advantage are an estimate: training used entropies over the whole vocabulary, which are not stored; "
            "here the surprisal of sampled tokens stands for them, which is right on average only."
        )
        if not isinstance(chosen, AEMConfig) or chosen.scope == "batch":
            notes.append(f"{chosen.estimator} looks at a whole batch in training, and only at this group here.")
        if isinstance(chosen, AEMConfig) and chosen.shuffle:
            notes.append("Training shuffled the factors, by a seed and its step; here they are shuffled otherwise.")
    if config.branches_per_trajectory and not isinstance(chosen, BaselineConfig):
        notes.append("Branches were trained on too; their responses are left out here, and with them α was another.")
    if config.importance_sampling.mode != "none":
        notes.append("Importance sampling weighted each token in training; its ratios are not stored.")
    if config.oversampled_groups:
        notes.append(
            "The run rolls out more groups than it trains on, and which it chose is not stored: zero-variance groups "
            "are left out first."
        )
    return notes
