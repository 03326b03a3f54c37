"""`RolloutGroup`: the trajectories of one task that share a baseline, while they are rolled out."""

import asyncio
from collections.abc import Mapping

from swe_aem.core import OUTCOME_TABLE, Outcome, TaskRecord, TrajectoryKey
from swe_aem.rollout.config import RolloutConfig
from swe_aem.store import StoredRow, TrajectoryCounters


class RolloutGroup:
    """Which samples are stored, which are under way, and whether there are enough."""

    def __init__(self, record: TaskRecord, samples: range, *, size: int, stored: Mapping[int, Outcome]) -> None:
        """`samples` are the group's, `size` of which it needs; `stored` are those among them that have a record."""
        self.record = record
        self.size = size
        self.keys = tuple(TrajectoryKey(record.task.id, sample) for sample in samples)
        self.missing = [key for key in self.keys if key.sample not in stored]
        """Trajectories that have no record yet, in order."""
        self.left_out = False
        """Can no trajectory of its task be rolled out here?"""
        self.rewards: list[float | None] = []
        """Rewards of the trajectories that were added here."""
        self._outstanding = set(self.missing)
        self._counted = sum(OUTCOME_TABLE[outcome].in_baseline for outcome in stored.values())
        self._under_way: set[TrajectoryKey] = set()
        self._cancellable: dict[TrajectoryKey, asyncio.Task[None]] = {}

    @property
    def complete(self) -> bool:
        """Do at least `size` stored trajectories count in the baseline?"""
        return self._counted >= self.size

    @property
    def ended(self) -> bool:
        """Is no trajectory outstanding?"""
        return not self._outstanding

    @property
    def over(self) -> bool:
        """Is no trajectory outstanding or under way, so that nothing more of it will be stored?"""
        return self.ended and not self._under_way

    def given_up(self) -> None:
        """Those not started will not be, and what has no record now gets none."""
        self._outstanding.clear()
        self.left_out = True

    def started(self, key: TrajectoryKey, task: asyncio.Task[None]) -> None:
        """The trajectory is under way in that task."""
        self._under_way.add(key)
        self._cancellable[key] = task

    def left(self, key: TrajectoryKey) -> None:
        """The trajectory's task is over, however it ended."""
        self._under_way.discard(key)

    def finished(self, key: TrajectoryKey) -> None:
        """The trajectory is terminal: from now on it will be stored and not be cancelled as surplus."""
        self._cancellable.pop(key, None)

    def stored(self, one: TrajectoryCounters) -> None:
        """The trajectory is in the store."""
        self.rewards.append(one.reward)
        self._counted += one.in_baseline
        self._outstanding.discard(one.key)

    def cancel_surplus(self) -> int:
        """Cancel every trajectory that is under way and give up those not started; returns how many were under way."""
        surplus = list(self._cancellable.values())
        for task in surplus:
            task.cancel()
        self._cancellable.clear()
        self._outstanding.clear()
        return len(surplus)


def group_of(
    config: RolloutConfig, record: TaskRecord, rows: Mapping[TrajectoryKey, StoredRow], *, epoch: int = 0
) -> RolloutGroup:
    """A task's group in an epoch, counted from 0; its samples follow those of the epochs before.

    `rows` are the records of the store. A rollout outside of training has epoch 0 only.
    """
    block = block_size(config)
    samples = range(epoch * block, (epoch + 1) * block)
    keys = (TrajectoryKey(record.task.id, sample) for sample in samples)
    stored = {key.sample: rows[key].outcome for key in keys if key in rows}
    return RolloutGroup(record, samples, size=config.group_size, stored=stored)


def block_size(config: RolloutConfig) -> int:
    """Samples that a group has at most."""
    return config.group_size + config.oversample
