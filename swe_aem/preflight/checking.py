"""`Checking`: finds out about tasks, wherever its sandboxes are.

`LocalChecking` has them on this host, `RemoteChecking` on the hosts of a cluster, where agents open a `LocalChecking`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import Field

from swe_aem.core import SandboxBackend, TaskRecord
from swe_aem.core.base import Frozen
from swe_aem.errors import InfrastructureError, UserError
from swe_aem.fleet import Engine
from swe_aem.fleet.host_work import HostWork, OpenHostBackend, host_backend, open_host
from swe_aem.fleet.messages import HostSize, Job, Opening
from swe_aem.fleet.outbox import Outbox
from swe_aem.fleet.remote_work import AllLost, Piece, RemoteWork
from swe_aem.grading import Grader
from swe_aem.preflight.probe import NotChecked, Probe, RunCounts, probe_task
from swe_aem.preflight.strength import StrengthConfig, measure_strength
from swe_aem.rollout import RolloutConfig, sandbox_spec
from swe_aem.rollout.causes import counted
from swe_aem.rollout.local_roller import prune_left_over
from swe_aem.rollout.places import AgentPlace
from swe_aem.rollout.roller import Place, RunState
from swe_aem.store import failed_attempt
from swe_aem.tasks import LockEntry, TaskSet

_RUN = "preflight"
"""Stands for the run in the labels of sandboxes."""

TaskCheck = LockEntry | NotChecked
OpenGrader = Callable[[SandboxBackend], AbstractAsyncContextManager[Grader]]


class CheckConfig(Frozen):
    """How to check."""

    counts: RunCounts = RunCounts()
    jobs: int = Field(default=2, ge=1)
    """Tasks checked at once, on each host."""
    rollout: RolloutConfig = RolloutConfig()
    """A rollout for which tasks are checked: its sandboxes' user, capabilities and resource limits, limits in seconds,
    attempts after infrastructure failures, and the hosts that check, where that is not this one."""
    strength: StrengthConfig = StrengthConfig()
    """Whether to measure how strong the tests are, too."""
    again: bool = False
    """Check again tasks that have an entry."""


class Checking(Protocol):
    """Finds out about tasks, about as many at once as it has places."""

    def open(self, run: RunState) -> AbstractAsyncContextManager[None]:
        """What checking needs, open for the length of the block; nothing is left when it ends. Once."""
        ...

    async def place(self, record: TaskRecord) -> Place:
        """Wait for a place for a task."""
        ...

    async def image(self, record: TaskRecord, place: Place) -> str:
        """The digest of a task's image; empty if it is not there. Releases the place."""
        ...

    async def check(self, record: TaskRecord, entry: LockEntry | None, place: Place) -> TaskCheck:
        """What the lock holds on a task, or, of one with an entry, that entry with the strength of its tests. Releases
        the place. What the host lacks for it, e.g. its image, and infrastructure failures are not its fault."""
        ...


class LocalChecking:
    """Checks in sandboxes of a backend on this host."""

    def __init__(
        self, config: CheckConfig, tasks: TaskSet, backend: SandboxBackend, grader: OpenGrader | None = None
    ) -> None:
        """`backend` is the one that the configuration names, entered."""
        self._config, self._tasks, self._backend, self._open_grader = config, tasks, backend, grader or Grader
        self._places = asyncio.Semaphore(config.jobs)
        self._grader: Grader | None = None

    @asynccontextmanager
    async def open(self, run: RunState) -> AsyncIterator[None]:
        """A grader."""
        async with self._open_grader(self._backend) as self._grader:
            yield

    async def place(self, record: TaskRecord) -> AgentPlace:
        """Wait for a place; any will do."""
        return await AgentPlace.of(self._places)

    async def image(self, record: TaskRecord, place: Place) -> str:
        """The digest of a task's image; empty if it is not there, which is told when the task is checked."""
        try:
            return await self._backend.image_digest(record.task.image)
        except (UserError, InfrastructureError):
            return ""
        finally:
            place.release()

    async def check(self, record: TaskRecord, entry: LockEntry | None, place: Place) -> TaskCheck:
        """Check a task here."""
        try:
            return await self.find_out(record, entry)
        except (UserError, InfrastructureError) as error:
            return NotChecked(task_id=record.task.id, why=str(error))
        finally:
            place.release()

    async def find_out(self, record: TaskRecord, entry: LockEntry | None) -> TaskCheck:
        """Check a task without a place. Raises `UserError` and `InfrastructureError` for what its host lacks for it."""
        probe = await self._probe(record)
        if entry is not None:
            return await measure_strength(probe, self._config.strength, entry)
        image, backend = await self._backend.image_digest(record.task.image), self._config.rollout.sandbox.type
        return await probe_task(probe, self._config.counts, backend=backend, image=image)

    async def _probe(self, record: TaskRecord) -> Probe:
        assert self._grader is not None, "tasks are checked only inside `async with checking.open(...)`"
        problems = await self._grader.check(record)
        if problems:
            raise UserError("; ".join(problems))
        workspace = await asyncio.to_thread(self._tasks.workspace, record.task.id)
        config = self._config.rollout
        spec = sandbox_spec(config, record, 0, run=_RUN, role="grader", workspace=workspace)
        return Probe(record, self._grader, spec, config)


@dataclass(frozen=True)
class _Asked:
    """What a host is asked about a task."""

    what: Literal["image", "check"]
    entry: LockEntry | None = None


class RemoteChecking:
    """Checks on agents, as `RemoteWork` has work done."""

    def __init__(self, config: CheckConfig, tasks: TaskSet, directory: Path, engine: Engine) -> None:
        """`directory` is one for files of this check alone."""
        self._work = RemoteWork(
            open_host_checking,
            config.rollout,
            tasks,
            directory,
            engine,
            run=_RUN,
            part="grading",
            settings=config,
            name="swe-aem tasks check",
        )

    def open(self, run: RunState) -> AbstractAsyncContextManager[None]:
        """Agents on the hosts of the cluster; once."""
        return self._work.open(run)

    async def place(self, record: TaskRecord) -> Place:
        """Wait for a place on some host; see `Fleet.place`."""
        return await self._work.place(record)

    async def image(self, record: TaskRecord, place: Place) -> str:
        """The digest of a task's image on the host of the place."""
        try:
            return await self._work.do(Piece(record, payload=_Asked("image")), place)
        except AllLost:
            return ""

    async def check(self, record: TaskRecord, entry: LockEntry | None, place: Place) -> TaskCheck:
        """Check a task, on as many hosts as it takes."""
        piece = Piece(record, payload=_Asked("check", entry), failed=lambda found: isinstance(found, NotChecked))
        try:
            return await self._work.do(piece, place)
        except AllLost as error:
            return NotChecked(task_id=record.task.id, why=counted(error.failures))


@asynccontextmanager
async def open_host_checking(
    opening: Opening, outbox: Outbox, *, grader: OpenGrader | None = None, backend: OpenHostBackend = host_backend
) -> AsyncIterator[HostWork]:
    """Checking as work on a host; the `settings` of its opening are a `CheckConfig`."""
    config: CheckConfig = opening.settings
    run = outbox.run_state()
    async with open_host(opening, outbox, HostSize.for_scripts(config.rollout, config.jobs), backend=backend) as host:
        checking = LocalChecking(config, host.tasks, host.backend, grader)

        async def check(job: Job, entry: LockEntry | None) -> TaskCheck:
            error: UserError | InfrastructureError
            try:
                found = await checking.find_out(job.record, entry)
            except (UserError, InfrastructureError) as raised:  # another host may have what this one lacks
                found, error = NotChecked(task_id=job.record.task.id, why=str(raised)), raised
            else:
                if not isinstance(found, NotChecked):
                    run.grading_breaker.worked()
                    return found
                error = InfrastructureError(found.why)
            run.watcher.failed(
                failed_attempt(
                    error,
                    task_id=job.record.task.id,
                    sample=job.sample,
                    attempt=len(job.earlier) + 1,
                    part="grading",
                    phase="check",
                    blame="infrastructure",
                )
            )
            if isinstance(error, InfrastructureError):
                run.grading_breaker.failed(error, job.record.task.id)
            return found

        async def do(job: Job, place: Place) -> Any:
            host.tasks.take(job.record)
            asked: _Asked = job.payload
            try:
                return await (checking.image(job.record, place) if asked.what == "image" else check(job, asked.entry))
            finally:
                place.release()

        await prune_left_over(host.backend, outbox.tell)
        try:
            async with checking.open(run):
                yield HostWork(host.size, do)
        finally:
            await prune_left_over(host.backend, outbox.tell)
