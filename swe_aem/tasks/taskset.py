"""`TaskSet`: the records of one source, with their working trees where the source has them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from swe_aem.core import TaskRecord
from swe_aem.errors import UserError
from swe_aem.suggest import did_you_mean
from swe_aem.tasks.families.reading import LeftOut
from swe_aem.tasks.packages import TreeStore


@dataclass(frozen=True)
class TaskSet:
    """Tasks of one source, in the source's order."""

    name: str
    """The source as the user named it."""
    records: tuple[TaskRecord, ...]
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Labels by task id, e.g. `mutation_kind`. They may reveal the answer and stay on the host."""
    packages: TreeStore | None = None
    """The clean packages that the tasks' trees are made from; None if an image holds the tree."""
    notes: tuple[str, ...] = ()
    """Notes for the user about how the set was read and chosen."""
    left_out: tuple[LeftOut, ...] = ()
    """The source's rows that cannot be tasks, in its order."""
    builds: Mapping[str, Path] = field(default_factory=dict)
    """Image to the directory with the Dockerfile that it is built from, for images that come with the source."""

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[TaskRecord]:
        return iter(self.records)

    @cached_property
    def _by_id(self) -> dict[str, TaskRecord]:
        return {record.task.id: record for record in self.records}

    def get(self, task_id: str) -> TaskRecord:
        """The record with that id; raises `UserError` if the set has none."""
        try:
            return self._by_id[task_id]
        except KeyError:
            for row in self.left_out:
                if row.id == task_id:
                    raise UserError(f"{self.name}: {task_id} ({row.where}) cannot be a task: {row.reason}") from None
            raise UserError(
                f"{self.name}: has no task {task_id}{did_you_mean(task_id, self._by_id)}; `swe-aem tasks list --tasks "
                f"{self.name}` shows the ids"
            ) from None

    def workspace(self, task_id: str) -> Path | None:
        """Host directory with the content of the task's working directory, `.git` included; None if its image has it.

        Made on the first call and kept in the cache; safe to call from several threads and processes. The directory is
        shared: read or copy it, never write to it. Raises `UserError` if the set has no such task or the cache cannot
        be written, `InfrastructureError` if the tree does not come out as the row's `base_commit`.
        """
        record = self.get(task_id)
        return None if self.packages is None else self.packages.workspace(record)
