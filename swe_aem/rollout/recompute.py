"""`recompute_rewards`: a store's trajectories under another reward, or under the same one whose code was fixed.

Nothing is run. What is written is a new store; a store never mixes rewards of two functions.

    DIR/recomputed.json    the store that it was made of, and the reward there
"""

import json
import os
import secrets
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swe_aem.core import Trajectory
from swe_aem.core.base import Frozen
from swe_aem.core.settings import check
from swe_aem.core.used import identities
from swe_aem.errors import UserError
from swe_aem.reward import REWARDS, Rewards
from swe_aem.rollout.broken_tasks import FILE as BROKEN_TASKS
from swe_aem.rollout.config import RolloutConfig
from swe_aem.rollout.group import block_size
from swe_aem.rollout.manifest import FILE, Manifest, read_manifest
from swe_aem.rollout.task_choice import chosen_tasks
from swe_aem.rollout.unrewarded import FOLDER
from swe_aem.rollout.verdict_rewards import is_graded, require_numbers
from swe_aem.runlog import holds_only_log, move_log
from swe_aem.store import FORMAT, Store, Totals, read_summary, replace, write_summary
from swe_aem.store.logs import FOLDER as LOGS

RECOMPUTED = "recomputed.json"
_SAME = 1e-9


class Recomputed(Frozen):
    """What another reward makes of a store."""

    trajectories: int
    """Trajectories that have a reward now."""
    unrewarded: int
    """Those among them that had none, because the reward function failed."""
    changed: int
    """Those whose reward is another."""
    mean_before: float | None
    """Mean reward of those that had one."""
    mean_after: float | None
    terms: dict[str, float]
    """Mean of each named term before its weight."""
    groups: int
    zero_variance_before: int
    """Groups whose rewards are all equal, so that nothing is learned from them."""
    zero_variance_after: int


def recompute_rewards(source: Path, reward: str | Mapping[str, Any], directory: Path | None = None) -> Recomputed:
    """Give the trajectories of the store `source` the rewards of a setting, and write them into a new `directory` if
    one is given. Those that lie in `unrewarded` are taken along.

    Raises `UserError` if there is no store, the setting does not fit it, or the directory is not new; and
    `ExtensionFailed` as `Rewards` does, when nothing was written.
    """
    manifest = _manifest(source)
    config = manifest.config.model_copy(update={"reward": checked_reward(reward)})
    if is_graded(config.reward):
        require_numbers(config.reward, chosen_tasks(config).records)
    rewards = Rewards(config.reward)
    if directory is None:
        counted = _Counted(block_size(config))
        for trajectory in _everything(source):
            counted.add(trajectory, rewards(trajectory))
        return counted.result()
    with new_directory(directory) as unfinished:
        return _write(source, manifest, config, rewards, unfinished)


def checked_reward(reward: str | Mapping[str, Any]) -> Any:
    """The setting as it is stored. Raises `UserError` for one that cannot be a reward."""
    return check(RolloutConfig, {"reward": reward}).reward


@contextmanager
def new_directory(directory: Path) -> Iterator[Path]:
    """A directory to fill, which gets its name at the end, whole. Raises `UserError` unless that is new."""
    if directory.exists() and not holds_only_log(directory):
        raise UserError(f"{directory} exists already: choose another --out, for rewards are never mixed in one store")
    directory.parent.mkdir(parents=True, exist_ok=True)
    unfinished = directory.parent / f".{directory.name}.{secrets.token_hex(4)}"
    unfinished.mkdir()
    try:
        yield unfinished
        if directory.exists():
            move_log(directory, unfinished)
            directory.rmdir()
        unfinished.rename(directory)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def link(source: Path, directory: Path) -> None:
    """Copy a folder, if there is one: its files are never changed in place, so they are linked where that works."""

    def one(file: str, copy: str) -> None:
        try:
            os.link(file, copy)
        except OSError:
            shutil.copy2(file, copy)

    if source.is_dir():
        shutil.copytree(source, directory, copy_function=one, dirs_exist_ok=True)


def write_recomputed(directory: Path, source: Path, **what: Any) -> None:
    """Note in a directory what its rewards were before."""
    replace(directory / RECOMPUTED, json.dumps({"source": str(source.resolve()), **what}, indent=2) + "\n")


def with_reward_identity(
    extensions: Mapping[str, str] | None, config: RolloutConfig, prefix: str = ""
) -> dict[str, str]:
    """The identities of extensions with those of the reward of another configuration."""
    name = f"{prefix}reward"
    kept = {one: identity for one, identity in (extensions or {}).items() if not f"{one}.".startswith(f"{name}.")}
    return kept | identities(name, REWARDS, config.reward)


def _manifest(source: Path) -> Manifest:
    manifest = read_manifest(source)
    if manifest is None or not (source / "trajectories").is_dir():
        raise UserError(f"{source}: no store of a rollout; name the --out of a rollout or of a training run")
    return manifest


def _write(source: Path, manifest: Manifest, config: RolloutConfig, rewards: Rewards, directory: Path) -> Recomputed:
    """Fill the directory of a new store."""
    counted, totals = _Counted(block_size(config)), Totals()
    with Store(directory).writer() as writer:
        for trajectory in _everything(source):
            paid = rewards(trajectory)
            counted.add(trajectory, paid)
            totals.add(paid)
            writer.append(paid)
    link(source / LOGS, directory / LOGS)
    link(source / FOLDER / LOGS, directory / LOGS)
    if (source / BROKEN_TASKS).exists():
        shutil.copy2(source / BROKEN_TASKS, directory / BROKEN_TASKS)
    update = {"run": secrets.token_hex(6), "store_format": FORMAT, "config": config}
    changed = manifest.model_copy(update={**update, "extensions": with_reward_identity(manifest.extensions, config)})
    replace(directory / FILE, changed.model_dump_json(indent=2) + "\n")
    write_recomputed(directory, source, reward=manifest.config.reward, extensions=manifest.extensions)
    earlier = read_summary(source)
    summary = totals.summary(
        wanted=manifest.wanted,
        group_size=config.group_size,
        surplus_cancelled=earlier.surplus_cancelled if earlier else 0,
        wall_s=earlier.wall_s if earlier else 0.0,
    )
    write_summary(directory, summary)
    return counted.result()


def _everything(source: Path) -> Iterator[Trajectory]:
    """The trajectories of a store, then those beside it that have no reward yet."""
    keys = set()
    for trajectory in Store(source).trajectories():
        keys.add(trajectory.key)
        yield trajectory
    for trajectory in Store(source / FOLDER).trajectories():
        if trajectory.key not in keys:
            yield trajectory


class _Counted:
    """Adds up what becomes of rewards."""

    def __init__(self, block: int) -> None:
        self._block = block
        self._before: list[float] = []
        self._after: list[float] = []
        self._terms: defaultdict[str, list[float]] = defaultdict(list)
        self._groups: defaultdict[tuple[str, int], list[tuple[float | None, float]]] = defaultdict(list)
        self._unrewarded = self._changed = 0

    def add(self, before: Trajectory, after: Trajectory) -> None:
        """Take one trajectory."""
        if after.reward is None:
            return
        self._after.append(after.reward)
        self._unrewarded += before.reward is None
        if before.reward is not None:
            self._before.append(before.reward)
            self._changed += abs(before.reward - after.reward) > _SAME
        for name, value in after.reward_terms.items():
            self._terms[name].append(value)
        self._groups[after.task_id, after.sample // self._block].append((before.reward, after.reward))

    def result(self) -> Recomputed:
        """The sums."""
        return Recomputed(
            trajectories=len(self._after),
            unrewarded=self._unrewarded,
            changed=self._changed,
            mean_before=_mean(self._before),
            mean_after=_mean(self._after),
            terms={name: sum(values) / len(values) for name, values in sorted(self._terms.items())},
            groups=len(self._groups),
            zero_variance_before=sum(
                _equal([before for before, _ in group if before is not None]) for group in self._groups.values()
            ),
            zero_variance_after=sum(_equal([after for _, after in group]) for group in self._groups.values()),
        )


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _equal(values: list[float]) -> bool:
    return bool(values) and max(values) - min(values) <= _SAME
