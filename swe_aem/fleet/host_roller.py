"""`HostRoller`: what rolls out on an agent's host. `open_host_roller` opens the ordinary one, with real sandboxes."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field

from swe_aem.core import SandboxBackend, TaskRecord
from swe_aem.core.scratch import scratch_directory
from swe_aem.errors import UserError
from swe_aem.fleet.messages import HostSize, Job, Opening
from swe_aem.fleet.outbox import Outbox
from swe_aem.rollout import RolloutConfig, open_components
from swe_aem.rollout.broken_tasks import FILE as BROKEN_TASKS
from swe_aem.rollout.local_roller import LocalRoller
from swe_aem.rollout.roller import Done, Place
from swe_aem.rollout.run import OpenComponents
from swe_aem.sandbox import open_backend, open_files
from swe_aem.tasks import TaskSet


@dataclass(frozen=True)
class HostRoller:
    """Rolls out trajectories here."""

    size: HostSize
    roll: Callable[[Job, Place], Awaitable[Done]]
    """Rolls out one trajectory to its end; raises what `LocalRoller.roll` does."""
    broken_tasks: Callable[[], bytes] = lambda: b""
    """What is known of broken tasks, as the store's file has it."""


OpenHostRoller = Callable[[Opening, Outbox], AbstractAsyncContextManager[HostRoller]]
"""Opens one, for the length of an `async with`; what its trajectories have to tell goes to the outbox."""


@dataclass(frozen=True)
class ReceivedTasks(TaskSet):
    """The tasks of a set that have been received so far."""

    received: dict[str, TaskRecord] = field(default_factory=dict)

    def get(self, task_id: str) -> TaskRecord:
        """The record with that id."""
        return self.received[task_id]


def _backend(config: RolloutConfig) -> SandboxBackend:
    return open_backend(config.sandbox)


async def _require_answer(sandboxes: SandboxBackend) -> None:
    if not await sandboxes.answers():
        raise UserError(f"its {sandboxes.name} does not answer: run `swe-aem doctor` there")


async def look_at_this_host(config: RolloutConfig) -> HostSize:
    """This host's size. Raises `UserError` if the backend of a configuration's sandboxes cannot be used here."""
    async with _backend(config) as sandboxes:
        await _require_answer(sandboxes)
    return HostSize.of_this_host(config)


@asynccontextmanager
async def open_host_roller(
    opening: Opening,
    outbox: Outbox,
    *,
    open_components: OpenComponents = open_components,
    backend: Callable[[RolloutConfig], SandboxBackend] = _backend,
) -> AsyncIterator[HostRoller]:
    """The ordinary components, gate and grader of a run, in this process.

    Raises `UserError` for what is not there, such as an engine, or cannot be used.
    """
    with suppress(OSError):  # then relative paths are not found, by their names
        os.chdir(opening.directory)
    config, size = opening.config, HostSize.of_this_host(opening.config)
    open_files.require(size.places)
    if (few := open_files.shortage(size.places)) is not None:
        outbox.tell(few)
    tasks = ReceivedTasks(name=opening.tasks.name, records=(), packages=opening.tasks.packages)
    with scratch_directory("agent") as directory:
        known = directory / BROKEN_TASKS
        known.write_bytes(opening.broken_tasks)
        async with backend(config) as sandboxes, open_components(config, tasks) as components:
            await _require_answer(sandboxes)
            roller = LocalRoller(config, components, sandboxes, directory, run=opening.run)

            async def roll(job: Job, place: Place) -> Done:
                tasks.received[job.record.task.id] = job.record
                return await roller.roll(job.record, job.sample, place, earlier=job.earlier, left_s=job.left_s)

            async with roller.open(outbox.run_state()):
                yield HostRoller(size, roll, known.read_bytes)
