"""`Group`: the trajectories of one task that share a baseline, as they come in."""

import asyncio
from collections.abc import Iterable, Mapping

from swe_aem.core import OUTCOME_TABLE, Outcome, TaskRecord, Trajectory, TrajectoryKey
from swe_aem.core.outcomes import in_baseline
from swe_aem.rollout.config import RolloutConfig
from swe_aem.store import StoredRow


class Group:
    """Which samples are stored, which are under way, and whether there are enough."""

    def __init__(self, record: TaskRecord, samples: range, *, size: int, stored: Mapping[int, Outcome]) -> None:
        """`samples` are the group's, `size` of which it needs; `stored` are those among them that have a record."""
        self.record = record
        self.samples = samples
        self.size = size
        self.missing = [sample for sample in samples if sample not in stored]
        """Samples that have no record yet, in order."""
        self.rewards: list[float | None] = []
        """Rewards of the trajectories that were added here."""
        self._outstanding = set(self.missing)
        self._counted = sum(OUTCOME_TABLE[outcome].in_baseline for outcome in stored.values())
        self._cancellable: dict[int, asyncio.Task[None]] = {}

    @property
    def complete(self) -> bool:
        """Do at least `size` stored trajectories count in the baseline?"""
        return self._counted >= self.size

    @property
    def ended(self) -> bool:
        """Is no sample outstanding?"""
        return not self._outstanding

    def started(self, sample: int, task: asyncio.Task[None]) -> None:
        """The sample is under way in that task."""
        self._cancellable[sample] = task

    def finished(self, sample: int) -> None:
        """The sample has a terminal trajectory: from now on it will be stored and not be cancelled as surplus."""
        self._cancellable.pop(sample, None)

    def stored(self, trajectory: Trajectory) -> None:
        """The trajectory is in the store."""
        self.rewards.append(trajectory.reward)
        self._counted += in_baseline(trajectory)
        self._outstanding.discard(trajectory.sample)

    def cancel_surplus(self) -> int:
        """Cancel every sample that is under way and give up those not started; returns how many were under way."""
        surplus = list(self._cancellable.values())
        for task in surplus:
            task.cancel()
        self._cancellable.clear()
        self._outstanding.clear()
        return len(surplus)


def group_of(
    config: RolloutConfig, record: TaskRecord, entries: Mapping[TrajectoryKey, StoredRow], *, visit: int = 0
) -> Group:
    """The group of a task's n-th visit, whose samples follow those of the visits before it. A rollout has visit 0."""
    block = block_size(config)
    samples = range(visit * block, (visit + 1) * block)
    keys = (TrajectoryKey(record.task.id, sample) for sample in samples)
    stored = {key.sample: entries[key].outcome for key in keys if key in entries}
    return Group(record, samples, size=config.group_size, stored=stored)


def block_size(config: RolloutConfig) -> int:
    """Samples that a group has at most."""
    return config.group_size + config.oversample


def groups_of(
    config: RolloutConfig, records: Iterable[TaskRecord], entries: Mapping[TrajectoryKey, StoredRow]
) -> list[Group]:
    """One group per task."""
    return [group_of(config, record, entries) for record in records]
