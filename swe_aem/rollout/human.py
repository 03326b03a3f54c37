"""`HumanSession`: a person in an agent's place, with the same sandbox, preparation, capture and grading."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from swe_aem.core import Deadline, Sandbox, SandboxBackend, TaskRecord, Verdict
from swe_aem.grading import CapturedWork, Delta, GivenTree, Grader, StartLayers, capture_work, prepare_for_agent
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
    given: GivenTree
    """The work tree as it was at the start."""

    async def work(self) -> CapturedWork:
        """What was done in the work tree, captured as an agent's is: this ends whatever runs in the sandbox."""
        return await capture_work(self.sandbox, self.record.task.workdir, self.given)


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
    async with StartLayers(backend) as layers:
        spec = await layers.choose(spec, record, "agent")
    async with backend.open(spec) as sandbox:
        given = await prepare_for_agent(sandbox, record)
        yield HumanSession(sandbox, record, given)


async def judge_human(
    config: RolloutConfig, tasks: TaskSet, task_id: str, work: CapturedWork, backend: SandboxBackend, *, grade: bool
) -> tuple[Delta, Verdict | None]:
    """What a person's work changes, and with `grade` its verdict, reached in a fresh sandbox as a rollout reaches it.

    Raises `UserError` for an unknown task or a missing image, `InfrastructureError` if there is no verdict.
    """
    record = tasks.get(task_id)
    workspace = await asyncio.to_thread(tasks.workspace, task_id)
    spec = sandbox_spec(config, record, 0, run=RUN, role="grader", workspace=workspace)
    async with Grader(backend, twins=config.twins) as grader, grader.slot(record, spec) as slot:
        delta = await slot.delta(work)
        if not grade:
            return delta, None
        return delta, await slot.grade(delta, Deadline.after(grade_attempt_s(config, record)))
