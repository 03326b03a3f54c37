"""Who does the work of a rollout: the agent, its policies, and the grading room. Tests put fakes in each place."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from swe_aem.core import Agent, Deadline, Policy, Sandbox, SandboxBackend, SandboxSpec, TaskRecord, Verdict


class Slot(Protocol):
    """A grading sandbox that is starting or started."""

    async def grade(self, patch: str, deadline: Deadline) -> Verdict:
        """The verdict on a patch; raises an `InfrastructureError` if there is none for a reason of ours."""
        ...


class Grader(Protocol):
    """Opens grading slots."""

    def slot(self, record: TaskRecord, spec: SandboxSpec) -> AbstractAsyncContextManager[Slot]:
        """A slot for one grade; its sandbox starts in the background, entering does not wait for it."""
        ...


@dataclass(frozen=True)
class Crew:
    """Everything that a rollout needs from other rooms."""

    agent: Agent
    policies: Callable[[TaskRecord, int], Policy]
    """The policy for one sample of a task; may be the same object for all."""
    grader: Callable[[SandboxBackend], AbstractAsyncContextManager[Grader]]
    """Makes the grader, whose sandboxes come from the given backend."""
    prepare: Callable[[Sandbox, TaskRecord], Awaitable[str]]
    """(sandbox, record) -> diff base, once the sandbox holds the task's start and nothing that gives it away."""
    capture: Callable[[Sandbox, str, str], Awaitable[str]]
    """(sandbox, workdir, diff base) -> the raw diff; cleaning it is a part of grading."""
    workspace: Callable[[str], Path | None]
    """Task id -> host directory with its working tree, None if the image holds it. Called in a thread."""
