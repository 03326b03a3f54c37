"""`recompute_run`: a training run that did not end, copied with the rewards of another function. Importable without
torch."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from swe_aem.core import Trajectory, TrajectoryKey
from swe_aem.errors import UserError
from swe_aem.rollout import block_size
from swe_aem.rollout.recompute import (
    Recomputed,
    checked_reward,
    link,
    new_directory,
    recompute_rewards,
    with_reward_identity,
    write_recomputed,
)
from swe_aem.runlog import is_log
from swe_aem.store import Store, replace
from swe_aem.train.config import TrainConfig
from swe_aem.train.directory import CONFIG, EXTENSIONS, HELDOUT, ROLLOUTS, recorded_extensions, stored_config
from swe_aem.train.records import SUMMARY, read_metrics
from swe_aem.train.schedule import see_again

_LINKED = "checkpoints"


def is_run(directory: Path) -> bool:
    """Is it the directory of a training run?"""
    return (directory / CONFIG).is_file() and (directory / ROLLOUTS).is_dir()


def recompute_run(source: Path, reward: str | Mapping[str, Any], directory: Path | None = None) -> Recomputed:
    """Give the stored rollouts of a run the rewards of a setting; with a new `directory`, copy the run into it, which
    `swe-aem train` resumes under that reward. Steps that are trained keep what they learned from the rewards of before.

    Raises as `recompute_rewards` does, and `UserError` for a run that has ended.
    """
    if directory is None:
        return recompute_rewards(source / ROLLOUTS, reward)
    if (source / SUMMARY).exists():
        raise UserError(f"{source} has ended: there is nothing to resume. Recompute its store, {source / ROLLOUTS}")
    was = stored_config(source)
    rollout = was.rollout.model_copy(update={"reward": checked_reward(reward)})
    config = was.model_copy(update={"rollout": rollout})
    with new_directory(directory) as unfinished:
        found = recompute_rewards(source / ROLLOUTS, reward, unfinished / ROLLOUTS)
        for store in sorted(path for path in (source / HELDOUT).glob("*") if path.is_dir()):
            recompute_rewards(store, reward, unfinished / HELDOUT / store.name)
        link(source / _LINKED, unfinished / _LINKED)
        for file in source.iterdir():
            if file.is_file() and file.name not in (CONFIG, EXTENSIONS) and not is_log(file.name):
                shutil.copy2(file, unfinished / file.name)
        _see_again(unfinished, config)
        before = recorded_extensions(source)
        extensions = with_reward_identity(before, config.rollout, "rollout.")
        replace(unfinished / EXTENSIONS, json.dumps(extensions, indent=2) + "\n")
        replace(unfinished / CONFIG, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
        trained = max((line.step for line in read_metrics(source)), default=0)
        write_recomputed(unfinished, source, reward=was.rollout.reward, extensions=before, steps=trained)
    return found


def _see_again(directory: Path, config: TrainConfig) -> None:
    """Give what the task sampler has seen the rewards of the store in a directory."""
    store, block = Store(directory / ROLLOUTS), block_size(config.rollout)
    rows = store.index()

    def load(task_id: str, epoch: int) -> tuple[Trajectory, ...]:
        keys = (TrajectoryKey(task_id, sample) for sample in range(epoch * block, (epoch + 1) * block))
        return tuple(store.load(rows[key]) for key in keys if key in rows)

    see_again(directory, load, config.limits_reward)
