"""What a store's directory says of its groups: how samples make groups, and which training step rolled them out."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import yaml

from swe_aem.core.outcome import LimitsReward
from swe_aem.errors import UserError
from swe_aem.rollout import block_size, read_manifest
from swe_aem.train.consumed import CONSUMED, read_consumed
from swe_aem.train.directory import CONFIG, ROLLOUTS
from swe_aem.train.records import read_lines
from swe_aem.train.schedule import SCHEDULE, ScheduledStep

T = TypeVar("T")


class Grouping(NamedTuple):
    """How the samples of a store's tasks are grouped."""

    block: int | None
    """Samples that a group has at most: training rolls a task out once per epoch. None: a task has one group."""
    size: int | None
    """Trajectories that a group needs; what it has beyond, training cuts. None if nothing says so."""
    steps: dict[tuple[str, int], int] | None
    """Task and block to the training step; None outside of training."""
    limits_reward: LimitsReward
    """Reward in the baseline of what ended at a limit."""
    wanted: int | None
    """Trajectories that the run asks for; None in training, which asks for more step after step."""

    def block_of(self, sample: int) -> int:
        """The number of a sample's group among those of its task."""
        return sample // self.block if self.block else 0

    def step_of(self, task_id: str, sample: int, versions: list[int]) -> int | None:
        """The training step that rolled a trajectory out. Runs of older versions kept no list of what each step rolled
        out: then it is the step after that of the latest weights which sampled."""
        if self.steps is None:
            return None
        step = self.steps.get((task_id, self.block_of(sample)))
        return max(versions) + 1 if step is None and versions else step


def grouping_of(store: Path) -> Grouping:
    """Read what lies beside a store's rows. What cannot be read is as if it were not there: the rows are shown."""
    config = _or_none(lambda: read_manifest(store))
    run = store.parent
    is_training = store.name == ROLLOUTS and (run / CONFIG).is_file()
    return Grouping(
        block=block_size(config.config) if config and is_training else None,
        size=config.config.group_size if config else None,
        steps=_steps(run) if is_training else None,
        limits_reward=_limits_reward(run) if is_training else "graded",
        wanted=config.wanted if config and not is_training else None,
    )


def changed_when(store: Path) -> tuple[int, ...]:
    """Changes whenever `grouping_of` may have another answer."""
    paths = (store / "config.json", store.parent / SCHEDULE, store.parent / CONSUMED, store.parent / CONFIG)
    return tuple(path.stat().st_mtime_ns if path.is_file() else 0 for path in paths)


def _steps(run: Path) -> dict[tuple[str, int], int]:
    times: Counter[str] = Counter()
    found: dict[tuple[str, int], int] = {}
    for line in _or_none(lambda: list(read_lines(run / SCHEDULE, ScheduledStep, lambda value, _: dict(value)))) or ():
        for task_id in line.tasks:
            found[task_id, times[task_id]] = line.step
            times[task_id] += 1
    for step in _or_none(lambda: read_consumed(run)) or ():
        found.update(((one.task_id, one.epoch), step.step) for one in step.groups)
    return found


def _limits_reward(run: Path) -> LimitsReward:
    def read() -> object:
        settings = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))
        return settings.get("limits_reward") if isinstance(settings, dict) else None

    return "zero" if _or_none(read) == "zero" else "graded"


def _or_none(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except (UserError, OSError, ValueError, yaml.YAMLError):
        return None
