"""`Trials`: what is done once more, or beside, to find out whose failure something was.

An agent's calls are replayed in a fresh sandbox. A control does the same kind of work with nothing of a policy in it:
for an agent's sandbox it starts one, prepares it, runs a command and captures what changed, for grading it grades the
gold patch. Each trial has a budget of its own.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from swe_aem.core import Deadline, LimitHits, Sandbox, SandboxBackend, SandboxSpec, TaskRecord, Verdict, bounded
from swe_aem.errors import InfrastructureError
from swe_aem.grading import GivenTree, Grader
from swe_aem.rollout.budget import grade_attempt_s, policy_free_s, replay_s, sandbox_spec, start_s, twins_s
from swe_aem.rollout.companions import Companion, companion
from swe_aem.rollout.components import GradingComponents
from swe_aem.rollout.config import RolloutConfig
from swe_aem.rollout.controls import KEPT_S, Control, Controls
from swe_aem.rollout.recording import Recording

_COMMAND_S = 60.0


@dataclass(frozen=True)
class Trials:
    """Trials of one run."""

    config: RolloutConfig
    run: str
    """Id of the run, for labels."""
    components: GradingComponents
    gate: SandboxBackend
    grader: Grader
    controls: Controls

    async def sandbox_control(self, record: TaskRecord, kept_s: float = KEPT_S) -> Control:
        """Does a sandbox of the task's image start, run commands, and yield a patch? As `Controls.ask`."""
        return await self.controls.ask(("sandbox", record.task.image), lambda: self._untouched(record), kept_s=kept_s)

    async def grading_control(self, record: TaskRecord, kept_s: float = KEPT_S) -> Control:
        """Does grading the task's gold patch, or its untouched repository if it has none, come to a verdict? As
        `Controls.ask`."""

        async def measure() -> None:
            await self.control_verdict(record)

        return await self.controls.ask(("grading", record.task.id), measure, kept_s=kept_s)

    def sandbox_companion(self, record: TaskRecord) -> AbstractAsyncContextManager[Companion]:
        """A sandbox of the task's image that starts now, is used as in that control, and lives as long as the block."""
        return companion(lambda stack: self._control_sandbox(record, stack))

    def grading_companion(self, record: TaskRecord) -> AbstractAsyncContextManager[Companion]:
        """A grade of the task's gold patch, or of its untouched repository, that begins now, twins and all: it needs as
        many sandboxes as the grade of a patch. The first of them lives as long as the block."""

        async def work(stack: AsyncExitStack) -> Sandbox:
            return (await self._control_grade(record, stack, twins=True))[1]

        return companion(work)

    async def control_verdict(self, record: TaskRecord) -> tuple[Verdict, LimitHits]:
        """The verdict on the gold patch, or on the untouched repository if there is none, and what its sandbox's limits
        did; raises `InfrastructureError`."""
        async with AsyncExitStack() as stack:
            verdict, sandbox = await self._control_grade(record, stack, twins=False)
            return verdict, await sandbox.limit_hits()

    async def _control_grade(
        self, record: TaskRecord, stack: AsyncExitStack, *, twins: bool
    ) -> tuple[Verdict, Sandbox]:
        """The same verdict, and its sandbox, which the stack owns; with twins if the run has them and `twins` is
        true."""
        spec = await self._spec(record)
        limit_s = start_s(self.config) + grade_attempt_s(self.config, record)
        gold = ""
        if record.key.has_gold:
            limit = Deadline.after(start_s(self.config) + policy_free_s(self.config))
            async with bounded("making the gold patch", limit):
                gold = await self.grader.gold_patch(record, spec, limit)
        limit = Deadline.after(limit_s)
        async with bounded("the control", limit.postponed(twins_s(self.config, record) if twins else 0.0)):
            slot = await stack.enter_async_context(self.grader.slot(record, spec))
            verdict = await (slot.grade(gold, limit, twins=twins) if gold else slot.grade_untouched(limit))
            return verdict, await slot.sandbox()

    async def dies_again(self, record: TaskRecord, sample: int, recording: Recording, *, complete: bool) -> bool | None:
        """Is a fresh sandbox lost at the same call if all are made again, or is its patch not to be had if that was
        what failed? None if it is lost at another one, or if that could not be found out.

        `complete`: the agent had finished, so that what failed came after all of its calls, though the last of them may
        have gone unanswered.
        """
        try:
            async with (
                bounded("replaying the agent's calls", Deadline.after(replay_s(self.config))),
                self._as_agents(record, sample) as sandbox,
            ):
                given = await self.components.prepare(sandbox, record)
                lost_at = await recording.replay(sandbox)
                if lost_at is not None:
                    late = complete and lost_at == len(recording.calls)
                    return True if late or lost_at == recording.lost_at else None
                if not complete and recording.lost_at < len(recording.calls):
                    return False
                return not await self._yields_patch(sandbox, record, given)
        except InfrastructureError:
            return None

    async def _yields_patch(self, sandbox: Sandbox, record: TaskRecord, given: GivenTree) -> bool:
        try:
            async with bounded("capturing the patch", Deadline.after(self.config.scheduling.setup_limit_s)):
                await self.components.capture(sandbox, record.task.workdir, given)
        except InfrastructureError:
            return False
        return True

    async def _untouched(self, record: TaskRecord) -> None:
        async with AsyncExitStack() as stack:
            await self._control_sandbox(record, stack)

    async def _control_sandbox(self, record: TaskRecord, stack: AsyncExitStack) -> Sandbox:
        """A sandbox that did what an agent's is needed for; the stack owns it. Raises `InfrastructureError`."""
        limit = Deadline.after(start_s(self.config) + 3 * self.config.scheduling.setup_limit_s)
        async with bounded("the control", limit):
            sandbox = await stack.enter_async_context(self._as_agents(record, 0))
            given = await self.components.prepare(sandbox, record)
            done = await sandbox.run("true", timeout_s=_COMMAND_S)
            if done.exit_code != 0:
                raise InfrastructureError(f"`true` ended with exit code {done.exit_code}")
            await self.components.capture(sandbox, record.task.workdir, given)
            return sandbox

    @asynccontextmanager
    async def _as_agents(self, record: TaskRecord, sample: int) -> AsyncIterator[Sandbox]:
        """A sandbox that starts as an agent's does."""
        spec = await self.grader.layers.choose(await self._spec(record, sample), record, "agent")
        async with self.gate.open(spec) as sandbox:
            yield sandbox

    async def _spec(self, record: TaskRecord, sample: int = 0) -> SandboxSpec:
        workspace = await asyncio.to_thread(self.components.workspace, record.task.id)
        return sandbox_spec(self.config, record, sample, run=self.run, role="control", workspace=workspace)
