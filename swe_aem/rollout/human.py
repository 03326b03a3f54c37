"""`HumanSession`: a person in an agent's place, with the same sandbox, preparation, capture and grading."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from swe_aem.core import Deadline, Sandbox, SandboxBackend, TaskRecord, Verdict
from swe_aem.grading import Grader, StartLayers, capture_patch, prepare_for_agent
from swe_aem.rollout.budget import grade_attempt_s, sandbox_spec
from swe_aem.rollout.config import RolloutConfig
from swe_aem.tasks import TaskSet

RUN = "human"
"""Stands for the run in the labels of these sandboxes."""


@dataclass(frozen=True)
class HumanSession:
    """A live sandbox of a task, as an agent gets it."""

    sandbox: Sandbox
    record: TaskRecord
    base: str
    """Commit that the patch is taken against."""

    async def patch(self) -> str:
        """What was done in the work tree so far, captured as an agent's is."""
        return await capture_patch(self.sandbox, self.record.task.workdir, self.base)


@asynccontextmanager
async def human_session(
    config: RolloutConfig, tasks: TaskSet, task_id: str, backend: SandboxBackend
) -> AsyncIterator[HumanSession]:
    """Open the sandbox that a rollout with `config` would give its agent for the task; gone when the context is left.

    Raises `UserError` for an unknown task or a missing image, `InfrastructureError` if it does not start.
    """
    record = tasks.get(task_id)
    workspace = await asyncio.to_thread(tasks.workspace, task_id)
    spec = sandbox_spec(config, record, 0, run=RUN, role="agent", workspace=workspace)
    spec = await StartLayers(backend).choose(spec, record, "agent")
    async with backend.open(spec) as sandbox:
        base = await prepare_for_agent(sandbox, record)
        yield HumanSession(sandbox, record, base)


async def grade_human(
    config: RolloutConfig, tasks: TaskSet, task_id: str, patch: str, backend: SandboxBackend
) -> Verdict:
    """The verdict on a person's patch, reached in a fresh sandbox as a rollout reaches it.

    Raises `UserError` for an unknown task or a missing image, `InfrastructureError` if there is no verdict.
    """
    record = tasks.get(task_id)
    workspace = await asyncio.to_thread(tasks.workspace, task_id)
    spec = sandbox_spec(config, record, 0, run=RUN, role="grader", workspace=workspace)
    async with Grader(backend) as grader, grader.slot(record, spec) as slot:
        return await slot.grade(patch, Deadline.after(grade_attempt_s(config, record)))
