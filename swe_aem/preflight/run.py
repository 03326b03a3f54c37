"""Preflight of a whole task set: many tasks at once, the lock kept up to date, an interrupted check resumed."""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from swe_aem.core import SandboxBackend, TaskRecord, TrajectoryKey
from swe_aem.core.base import Frozen
from swe_aem.core.scratch import scratch_directory
from swe_aem.fleet import Engine, engine_at
from swe_aem.preflight.checking import CheckConfig, Checking, LocalChecking, RemoteChecking, TaskCheck
from swe_aem.preflight.probe import NotChecked
from swe_aem.rollout.breaker import Breaker, FirstAnswer
from swe_aem.rollout.orchestrator import raise_first
from swe_aem.rollout.roller import Place, RunState
from swe_aem.rollout.spending import Spending
from swe_aem.runlog import tell
from swe_aem.store import FailedAttempt, locked, replace
from swe_aem.tasks import LockEntry, LockKey, TaskSet, lock_text, read_lock

_WRITE_EVERY_S = 1.0


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
    backend: SandboxBackend | None,
    checked: Callable[[TaskCheck, int, int], None] = lambda task_check, done, of: None,
    *,
    engine: Engine | None = None,
) -> CheckResult:
    """Check every task that the lock at `path` does not hold yet, and keep the lock up to date meanwhile.

    Of a task that it holds without what `config.strength` asks for, only that is measured.

    `backend` is the one that `config.rollout.sandbox` names, entered; None where `config.rollout` names a cluster: then
    its hosts check, reached through `engine` if one is given.

    A kill at any moment loses the tasks under test and those of the last second. `checked` gets each task's check, with
    the number of tasks done and in all. Raises `UserError` if the lock cannot be read or is being written by another
    check; `RunAborted` if no host works.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent, f".{path.name}.writer"), scratch_directory("check") as scratch:
        lock = _LockFile(path, read_lock(path) if path.exists() else {})
        checking = _checking(config, tasks, backend, engine, scratch)
        not_checked: list[NotChecked] = []
        try:
            async with checking.open(_run_state(config, tasks)):
                known = {} if config.again else await _known(lock.entries, tasks.records, checking, config)
                todo = [record for record in tasks if _is_unknown(known.get(record.task.id), config)]
                done = 0

                def keep(entry: LockEntry) -> None:
                    known[entry.task_id] = entry
                    lock.put(entry)

                async def work(record: TaskRecord, place: Place) -> None:
                    nonlocal done
                    found = await _check_task(record, known.get(record.task.id), checking, place, config, keep)
                    done += 1
                    if isinstance(found, NotChecked):
                        not_checked.append(found)
                    checked(found, done, len(todo))

                async with asyncio.TaskGroup() as group:
                    for record in todo:
                        group.create_task(work(record, await checking.place(record)))
        except BaseExceptionGroup as failed:
            raise_first(failed)
        finally:
            lock.write()
    entries = tuple(known[record.task.id] for record in tasks if record.task.id in known)
    return CheckResult(entries=entries, not_checked=tuple(not_checked), earlier=len(tasks) - len(todo))


def _checking(
    config: CheckConfig, tasks: TaskSet, backend: SandboxBackend | None, engine: Engine | None, scratch: Path
) -> Checking:
    cluster = config.rollout.cluster
    if cluster is not None:
        return RemoteChecking(config, tasks, scratch, engine or engine_at(cluster.address))
    assert backend is not None, "without a cluster tasks are checked in sandboxes of a backend"
    return LocalChecking(config, tasks, backend)


def _is_unknown(entry: LockEntry | None, config: CheckConfig) -> bool:
    return entry is None or config.strength.wants(entry)


async def _check_task(
    record: TaskRecord,
    entry: LockEntry | None,
    checking: Checking,
    place: Place,
    config: CheckConfig,
    keep: Callable[[LockEntry], None],
) -> TaskCheck:
    """One task's check, of what `entry` does not say; `keep` gets what is found as soon as it is."""
    if entry is None:
        found = await checking.check(record, None, place)
        if isinstance(found, NotChecked):
            return found
        keep(entry := found)
        if not config.strength.wants(entry):
            return entry
        place = await checking.place(record)
    found = await checking.check(record, entry, place)
    if not isinstance(found, NotChecked):
        keep(found)
    return found


async def _known(
    entries: dict[LockKey, LockEntry], records: Sequence[TaskRecord], checking: Checking, config: CheckConfig
) -> dict[str, LockEntry]:
    """Entries of a backend, by task id, that speak for a task as it is now, in the image that it has now."""
    name = config.rollout.sandbox.type
    fitting = {
        record.task.id: (record, entry)
        for record in records
        if (entry := entries.get((record.task.id, name))) is not None and entry.fits(record)
    }
    images = {record.task.image: record for record, _ in fitting.values()}
    async with asyncio.TaskGroup() as group:
        asked = {
            image: group.create_task(checking.image(record, await checking.place(record)))
            for image, record in images.items()
        }
    digests = {image: one.result() for image, one in asked.items()}
    return {id: entry for id, (record, entry) in fitting.items() if entry.image == digests[record.task.image]}


def _run_state(config: CheckConfig, tasks: TaskSet) -> RunState:
    """A run that tells of what hosts say, and that failures do not end: the result names the tasks that had them."""
    breaker = Breaker("check a task", sys.maxsize, tasks=len(tasks))
    return RunState(
        watcher=_Told(),
        agent_breaker=breaker,
        grading_breaker=breaker,
        first_answer=FirstAnswer(known=True),
        spending=Spending(),
    )


class _Told:
    """A `Watcher` that shows messages and failures."""

    def phase(self, id: str, name: str) -> None:
        """Nobody asks."""

    def phase_ended(self, key: TrajectoryKey, attempt: int, name: str, began_s: float, seconds: float) -> None:
        """Nobody asks."""

    def failed(self, failed: FailedAttempt) -> None:
        """An attempt failed."""
        tell(f"{failed.task_id}: {failed.said}")

    def tell(self, text: str) -> None:
        """Something that a person should know."""
        tell(text)


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
