"""`HostWork`: what an agent does on its host. `open_host` opens what all kinds of it need: a backend of sandboxes."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swe_aem.core import FetchesImages, Limits, SandboxBackend, TaskRecord
from swe_aem.core.scratch import scratch_directory
from swe_aem.doctor import node_problem
from swe_aem.errors import UserError
from swe_aem.fleet.messages import HostSize, Job, Opening
from swe_aem.fleet.outbox import Outbox
from swe_aem.policy.following import Follower
from swe_aem.rollout import RolloutConfig
from swe_aem.rollout.broken_tasks import FILE as BROKEN_TASKS
from swe_aem.rollout.roller import Place
from swe_aem.sandbox import open_backend, open_files
from swe_aem.tasks import TaskSet

FetchImage = Callable[[str], Awaitable[None]]


@dataclass(frozen=True)
class HostWork:
    """Does jobs here."""

    size: HostSize
    do: Callable[[Job, Place], Awaitable[Any]]
    """Does one job to its end. What it returns can be pickled; it releases the place once another job may begin."""
    broken_tasks: Callable[[], bytes] = lambda: b"{}"
    """What is known of broken tasks, as the store's file has it."""
    follower: Follower | None = None
    """Obeys orders about the policy, where another process changes the weights of its servers."""
    fetch: FetchImage | None = None
    """Brings an image here before a job needs it, where the backend of its sandboxes can."""


OpenHostWork = Callable[[Opening, Outbox], AbstractAsyncContextManager[HostWork]]
"""Opens some, for the length of an `async with`; what its jobs have to tell goes to the outbox."""
OpenHostBackend = Callable[[RolloutConfig], AbstractAsyncContextManager[SandboxBackend]]
"""Opens the backend of a configuration's sandboxes; raises `UserError` if those cannot work here."""


@dataclass(frozen=True)
class ReceivedTasks(TaskSet):
    """The tasks of a set that have been received so far."""

    received: dict[str, TaskRecord] = field(default_factory=dict)

    def get(self, task_id: str) -> TaskRecord:
        """The record with that id."""
        return self.received[task_id]

    def take(self, record: TaskRecord) -> None:
        """Receive a task."""
        self.received[record.task.id] = record


@dataclass(frozen=True)
class OpenHost:
    """What all kinds of work on a host share."""

    tasks: ReceivedTasks
    backend: SandboxBackend
    directory: Path
    """This agent's own; it begins with what the run knows of broken tasks."""
    size: HostSize

    @property
    def fetch(self) -> FetchImage | None:
        """What `HostWork.fetch` is."""
        return self.backend.fetch_image if isinstance(self.backend, FetchesImages) else None

    def broken_tasks(self) -> bytes:
        """What is known of broken tasks."""
        return (self.directory / BROKEN_TASKS).read_bytes()


@asynccontextmanager
async def host_backend(config: RolloutConfig) -> AsyncIterator[SandboxBackend]:
    """The backend that a configuration names, if the host has what its sandboxes need; raises `UserError` if not."""
    limited = config.limits != Limits(**dict.fromkeys(Limits.model_fields))
    if problem := await asyncio.to_thread(node_problem, config.sandbox.type, limited=limited):
        raise UserError(f"`swe-aem doctor` fails there: {problem}")
    async with open_backend(config.sandbox) as sandboxes:
        yield sandboxes


async def _require_answer(sandboxes: SandboxBackend) -> None:
    if not await sandboxes.answers():
        raise UserError(f"its {sandboxes.name} does not answer: run `swe-aem doctor` there")


async def look_at_this_host(config: RolloutConfig) -> HostSize:
    """This host's size. Raises `UserError` if the backend of a configuration's sandboxes cannot be used here."""
    async with host_backend(config) as sandboxes:
        await _require_answer(sandboxes)
    return HostSize.for_trajectories(config)


@asynccontextmanager
async def open_host(
    opening: Opening, outbox: Outbox, size: HostSize, *, backend: OpenHostBackend = host_backend
) -> AsyncIterator[OpenHost]:
    """A backend, and what else work on a host needs, for as many jobs at once as `size` says.

    Raises `UserError` for what is not there, such as an engine, or cannot be used.
    """
    with suppress(OSError):  # then relative paths are not found, by their names
        os.chdir(opening.directory)
    open_files.require(size.places)
    if (few := open_files.shortage(size.places)) is not None:
        outbox.tell(few)
    tasks = ReceivedTasks(name=opening.tasks.name, records=(), packages=opening.tasks.packages)
    with scratch_directory("agent") as directory:
        (directory / BROKEN_TASKS).write_bytes(opening.broken_tasks)
        async with backend(opening.config) as sandboxes:
            await _require_answer(sandboxes)
            yield OpenHost(tasks, sandboxes, directory, size)
