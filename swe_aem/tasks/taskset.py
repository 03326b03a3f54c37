"""`TaskSet`: the records of one source, with their working trees where the source has them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

from swe_aem.core import TaskRecord
from swe_aem.errors import UserError
from swe_aem.suggest import did_you_mean
from swe_aem.tasks.families.reading import LeftOut
from swe_aem.tasks.git_tree import git_workspace
from swe_aem.tasks.packages import TreeStore


@dataclass(frozen=True)
class TaskSet:
    """Tasks of one source, in the source's order: a sequence of `TaskRecord`s. A slice of it is a set too."""

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
    split: str | None = None
    """The split that was asked for, None for none in particular."""
    ids: tuple[str, ...] | None = None
    """The ids that were asked for, None for all."""
    family: str | Mapping[str, Any] | None = None
    """The family that was asked for, None for whichever recognises a row."""
    extensions: Mapping[str, str] = field(default_factory=dict)
    """What read the rows and is not built in: setting to its version and hash, as a run records it."""
    limit: int | None = None
    """How many of the first tasks were asked for, None for all."""

    @staticmethod
    def of(tasks: "TaskSet | Iterable[TaskRecord]") -> "TaskSet":
        """The set of tasks that were picked out of a loaded one, e.g. of a list of some of them, in their order.

        Raises `UserError` if there are none, one is there twice, or they are not all of one set.
        """
        if isinstance(tasks, TaskSet):
            return tasks
        records = tuple(tasks)
        if not records:
            raise UserError("no tasks are left to choose from")
        if strangers := [record for record in records if not isinstance(record, TaskRecord) or record._origin is None]:
            what = strangers[0].task.id if isinstance(strangers[0], TaskRecord) else repr(strangers[0])
            raise UserError(f"{what} was not loaded from a task set: choose among what load_tasks returns")
        id, count = Counter(record.task.id for record in records).most_common(1)[0]
        if count > 1:
            raise UserError(f"task {id} is there {count} times; give each task once")
        origin: TaskSet = records[0]._origin
        if others := {record._origin.name for record in records} - {origin.name}:
            raise UserError(f"the tasks are of several sets, {origin.name} and {others.pop()}: use one set at a time")
        return replace(origin, records=records, ids=tuple(sorted(record.task.id for record in records)))

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[TaskRecord]:
        return iter(self.records)

    @overload
    def __getitem__(self, index: int) -> TaskRecord: ...
    @overload
    def __getitem__(self, index: slice) -> "TaskSet": ...
    def __getitem__(self, index: int | slice) -> "TaskRecord | TaskSet":
        return TaskSet.of(self.records[index]) if isinstance(index, slice) else self.records[index]

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

        Where the record has a `repository`, it is a commit of that. Made on the first call and kept in the cache; safe
        to call from several threads and processes. The directory is shared: read or copy it, never write to it. Raises
        `UserError` if the set has no such task or the cache cannot be written, `InfrastructureError` if the tree does
        not come out as the row's `base_commit`.
        """
        record = self.get(task_id)
        if record.repository is not None:
            return git_workspace(record.repository, record.task.base_commit)
        return None if self.packages is None else self.packages.workspace(record)
