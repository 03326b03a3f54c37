"""Preflight of a whole task set: many tasks at once, the lock kept up to date, an interrupted check resumed."""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import Field

from swe_aem.core import SandboxBackend, TaskRecord
from swe_aem.core.base import Frozen
from swe_aem.errors import InfrastructureError, UserError
from swe_aem.grading import Grader
from swe_aem.preflight.probe import NotChecked, Probe, RunCounts, probe_task
from swe_aem.preflight.strength import StrengthConfig, measure_strength
from swe_aem.rollout import RolloutConfig, sandbox_spec
from swe_aem.store import locked, replace
from swe_aem.tasks import LockEntry, LockKey, TaskSet, lock_text, read_lock

_WRITE_EVERY_S = 1.0
_RUN = "preflight"
"""Stands for the run in the labels of sandboxes."""

TaskCheck = LockEntry | NotChecked


class CheckConfig(Frozen):
    """How to check."""

    counts: RunCounts = RunCounts()
    jobs: int = Field(default=2, ge=1)
    """Tasks checked at once."""
    rollout: RolloutConfig = RolloutConfig()
    """A rollout for which tasks are checked: its sandboxes' user, capabilities and resource limits, limits in seconds,
    and attempts after infrastructure failures."""
    strength: StrengthConfig = StrengthConfig()
    """Whether to measure how strong the tests are, too."""
    again: bool = False
    """Check again tasks that have an entry."""


class CheckResult(Frozen):
    """What a check of a task set found."""

    entries: tuple[LockEntry, ...]
    """Entries of the chosen tasks, those of earlier checks included."""
    not_checked: tuple[NotChecked, ...]
    """Tasks that infrastructure failures kept from being checked."""
    earlier: int
    """How many of the entries were there before."""

    @property
    def failed(self) -> tuple[LockEntry, ...]:
        """Entries of tasks that are not fit."""
        return tuple(entry for entry in self.entries if not entry.passed)


async def check(
    config: CheckConfig,
    tasks: TaskSet,
    path: Path,
    backend: SandboxBackend,
    tell: Callable[[TaskCheck, int, int], None] = lambda task_check, done, of: None,
) -> CheckResult:
    """Check every task that the lock at `path` does not hold yet, and keep the lock up to date meanwhile.

    Of a task that it holds without what `config.strength` asks for, only that is measured.

    `backend` is the one that `config.rollout.sandbox` names, entered.

    A kill at any moment loses the tasks under test and those of the last second. `tell` gets each task's check, with
    the number of tasks done and in all. Raises `UserError` if the lock cannot be read or is being written by another
    check.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent, f".{path.name}.writer"):
        lock = _LockFile(path, read_lock(path) if path.exists() else {})
        known = {} if config.again else await _known(lock.entries, tasks.records, backend, config.rollout.sandbox.type)
        todo = [record for record in tasks if _is_unknown(known.get(record.task.id), config)]
        not_checked: list[NotChecked] = []
        queue = iter(enumerate(todo, start=1))
        done = 0

        def keep(entry: LockEntry) -> None:
            known[entry.task_id] = entry
            lock.put(entry)

        async def work(grader: Grader) -> None:
            nonlocal done
            for _, record in queue:
                entry = known.get(record.task.id)
                task_check = await _check_task(record, tasks, grader, backend, config, entry, keep)
                done += 1
                if isinstance(task_check, NotChecked):
                    not_checked.append(task_check)
                tell(task_check, done, len(todo))

        try:
            async with Grader(backend) as grader, asyncio.TaskGroup() as group:
                for _ in range(min(config.jobs, len(todo))):
                    group.create_task(work(grader))
        finally:
            lock.write()
    entries = tuple(known[record.task.id] for record in tasks if record.task.id in known)
    return CheckResult(entries=entries, not_checked=tuple(not_checked), earlier=len(tasks) - len(todo))


def _is_unknown(entry: LockEntry | None, config: CheckConfig) -> bool:
    return entry is None or config.strength.wants(entry)


async def _check_task(
    record: TaskRecord,
    tasks: TaskSet,
    grader: Grader,
    backend: SandboxBackend,
    config: CheckConfig,
    entry: LockEntry | None,
    keep: Callable[[LockEntry], None],
) -> TaskCheck:
    """One task's check, of what `entry` does not say; `keep` gets what is found as soon as it is.

    What the host lacks for it, e.g. its image, and infrastructure failures are not its fault.
    """
    try:
        probe = await _probe(record, tasks, grader, config)
        if entry is None:
            image = await backend.image_digest(record.task.image)
            found = await probe_task(probe, config.counts, backend=config.rollout.sandbox.type, image=image)
            if isinstance(found, NotChecked):
                return found
            keep(entry := found)
        if not config.strength.wants(entry):
            return entry
        found = await measure_strength(probe, config.strength, entry)
        if isinstance(found, LockEntry):
            keep(found)
        return found
    except (UserError, InfrastructureError) as error:
        return NotChecked(task_id=record.task.id, why=str(error))


async def _probe(record: TaskRecord, tasks: TaskSet, grader: Grader, config: CheckConfig) -> Probe:
    problems = await grader.check(record)
    if problems:
        raise UserError("; ".join(problems))
    workspace = await asyncio.to_thread(tasks.workspace, record.task.id)
    spec = sandbox_spec(config.rollout, record, 0, run=_RUN, role="grader", workspace=workspace)
    return Probe(record, grader, spec, config.rollout)


async def _known(
    entries: dict[LockKey, LockEntry], records: Sequence[TaskRecord], backend: SandboxBackend, name: str
) -> dict[str, LockEntry]:
    """Entries of a backend, by task id, that speak for a task as it is now, in the image that it has now."""
    found, digests = {}, {}
    for record in records:
        entry, image = entries.get((record.task.id, name)), record.task.image
        if entry is None or not entry.fits(record):
            continue
        if image not in digests:
            try:
                digests[image] = await backend.image_digest(image)
            except (UserError, InfrastructureError):
                digests[image] = ""  # not there: found out, and told, when the task is checked
        if entry.image == digests[image]:
            found[entry.task_id] = entry
    return found


class _LockFile:
    """The lock file, written whole, at most once a second and at the end."""

    def __init__(self, path: Path, entries: dict[LockKey, LockEntry]) -> None:
        self.path = path
        self.entries = entries
        self._written_s = time.monotonic()
        self._changed = False

    def put(self, entry: LockEntry) -> None:
        """Add or replace an entry."""
        self.entries[entry.key] = entry
        self._changed = True
        if time.monotonic() - self._written_s > _WRITE_EVERY_S:
            self.write()

    def write(self) -> None:
        """Write the file if there is news."""
        if self._changed:
            replace(self.path, lock_text(self.entries))
            self._changed = False
            self._written_s = time.monotonic()
