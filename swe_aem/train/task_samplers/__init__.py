"""Task samplers: which tasks a step of training rolls out. Importable without torch.

A task sampler is called once per step. What it chose is written down before anything is rolled out, so that a run that
is killed and repeated rolls out the same tasks. `epochs` and `difficulty` are built in; `docs/extend/sampler.md` shows
how to write another.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, BeforeValidator

from swe_aem.core import Outcome, TaskRecord, Trajectory
from swe_aem.core.base import Frozen
from swe_aem.core.outcome import LimitsReward
from swe_aem.core.outcomes import in_baseline, is_resolved
from swe_aem.errors import UserError
from swe_aem.extensions import ExtensionPoint
from swe_aem.train.training_row import baseline_reward


class SampledGroup(Frozen):
    """What came of one group: all trajectories of a task that were rolled out for a step, trained on or not."""

    step: int
    """The step that consumed the group, from 1."""
    task_id: str
    resolved: tuple[bool | None, ...]
    """Did each trajectory, by sample number, resolve the task? None where its end says nothing about the policy."""
    rewards: tuple[float | None, ...] = ()
    """Reward of each trajectory in the group's baseline; None where it does not count."""
    outcomes: tuple[Outcome, ...] = ()
    """How each trajectory ended."""

    @property
    def solve_rate(self) -> float | None:
        """Share of the trajectories that resolved the task, 0..1, among those that say something about the policy; None
        if none does."""
        judged = [one for one in self.resolved if one is not None]
        return sum(judged) / len(judged) if judged else None

    @property
    def broken(self) -> bool:
        """Can the task's tests not be run at all?"""
        return Outcome.BROKEN_TASK in self.outcomes


@dataclass(frozen=True)
class TaskSamplerInputs:
    """What a task sampler is given for one step."""

    tasks: Sequence[TaskRecord]
    """All tasks of the run, in the order of the task set."""
    step: int
    """Number of the step, from 1."""
    count: int
    """How many tasks to choose. One that is chosen twice is rolled out as two groups."""
    seed: int = 0
    """The run's seed."""
    history: Sequence[SampledGroup] = ()
    """What came of the groups that earlier steps consumed, in order: of all steps before this one, and with
    `max_staleness` above 0 of those that have taken their groups when this one's tasks are chosen. A rerun sees the
    same."""

    @cached_property
    def random(self) -> random.Random:
        """Dice that depend on the run's seed and the step alone."""
        return random.Random(f"{self.seed} {self.step}")


class TaskSampler(Protocol):
    """Chooses the tasks of a step: a function, or an instance of a class of settings with `__call__`."""

    def __call__(self, inputs: TaskSamplerInputs, /) -> Sequence[str]:
        """The ids of `inputs.count` of `inputs.tasks`, in the order in which they are rolled out."""
        ...


_BUILTIN = {
    "epochs": "swe_aem.train.task_samplers.epochs:epochs",
    "difficulty": "swe_aem.train.task_samplers.difficulty:Difficulty",
}
TASK_SAMPLERS: ExtensionPoint[Any] = ExtensionPoint("task sampler", group="swe_aem.task_samplers", builtin=_BUILTIN)


def _setting(value: Any) -> dict[str, Any]:
    """The setting as `{type: NAME, ...}`. Settings of a built-in sampler are checked and completed; nothing of a user's
    is imported."""
    setting = {"type": value} if isinstance(value, str) else value
    if not isinstance(setting, Mapping):
        raise ValueError("give a name, or a mapping {type: NAME, ...} with the settings of what it names")
    try:
        name = TASK_SAMPLERS.name_of(setting)
        TASK_SAMPLERS.check(name)
        made = TASK_SAMPLERS.make(setting) if TASK_SAMPLERS.is_builtin(name) else None
    except UserError as error:
        raise ValueError(str(error)) from None
    return {"type": name, **made.model_dump(mode="json")} if isinstance(made, BaseModel) else dict(setting)


TaskSamplerSetting = Annotated[dict[str, Any], BeforeValidator(_setting)]
"""A task sampler in a configuration: a name, or a mapping of `type` and of the settings of what it names."""


def sampled_group(
    step: int, task_id: str, trajectories: Sequence[Trajectory], limits_reward: LimitsReward = "graded"
) -> SampledGroup:
    """What came of a group, by its stored trajectories; `limits_reward` is that of `baseline_reward`."""
    return SampledGroup(
        step=step,
        task_id=task_id,
        resolved=tuple(map(_resolved, trajectories)),
        rewards=tuple(baseline_reward(one, limits_reward) for one in trajectories),
        outcomes=tuple(one.outcome for one in trajectories if one.outcome is not None),
    )


def _resolved(trajectory: Trajectory) -> bool | None:
    return is_resolved(trajectory) if in_baseline(trajectory) else None
