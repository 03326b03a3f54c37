"""`TrajectoryRun`: one trajectory: start, prepare, agent, capture, grade; retried after infrastructure failures.

The agent's sandbox is gone before anything of the answer key enters the grading sandbox, which starts while the agent
works. A failed attempt of the agent is repeated from the start; a failed grade is repeated with the same patch. Every
run ends with a terminal trajectory.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from swe_aem.core import Deadline, Outcome, Policy, Stop, TaskRecord, Trajectory, TrajectoryKey, Verdict, bounded
from swe_aem.core.outcomes import graded, needs_grading
from swe_aem.errors import InfrastructureError
from swe_aem.grading import Grader, GradeSlot, StartLayers
from swe_aem.rollout.breaker import Breaker, describe
from swe_aem.rollout.budget import backoff_s, grade_attempt_s, sandbox_spec, trajectory_s
from swe_aem.rollout.components import RolloutComponents
from swe_aem.rollout.config import RolloutConfig
from swe_aem.rollout.gate import PhaseTimer, StartGate
from swe_aem.rollout.progress import RunProgress


@dataclass(frozen=True)
class RunContext:
    """State shared by all trajectories of a run."""

    config: RolloutConfig
    run: str
    """Id of the run, for labels."""
    components: RolloutComponents
    gate: StartGate
    layers: StartLayers
    grader: Grader
    grading_slots: asyncio.Semaphore
    """Bounds the evaluation scripts that run at once."""
    agent_breaker: Breaker
    grading_breaker: Breaker
    progress: RunProgress


@dataclass
class TrajectoryRun:
    """One trajectory on its way to a terminal state."""

    context: RunContext
    record: TaskRecord
    key: TrajectoryKey
    release_agent_slot: Callable[[], None]
    """Frees the agent slot, so that another agent may start. Called only after a grading slot is held, so that finished
    agents cannot pile up."""
    failures: list[str] = field(default_factory=list)
    """Infrastructure failures so far, each as one phrase."""
    model: str = ""
    """Name of the policy, once there is one."""

    def __post_init__(self) -> None:
        self._timer = PhaseTimer(lambda name: self.context.progress.phase(str(self.key), name))

    async def run(self) -> Trajectory:
        """The terminal trajectory. An exception that leaves here is a bug, a `UserError`, or `RunAborted`."""
        deadline = Deadline.after(trajectory_s(self.context.config, self.record))
        try:
            async with bounded(f"trajectory {self.key}", deadline):
                trajectory = await self._attempts(deadline)
        except InfrastructureError as error:  # only the budget's own: the attempts handle theirs
            self.failures.append(describe(error))
            trajectory = self._failed(Outcome.INFRASTRUCTURE)
        return trajectory.model_copy(update={"timings_s": self._timer.result(), "weight": self.record.weight})

    async def _attempts(self, deadline: Deadline) -> Trajectory:
        limits = self.context.config.scheduling
        while True:
            async with AsyncExitStack() as slots:
                try:
                    draft, slot = await self._act(slots, deadline)
                except InfrastructureError as error:
                    self._note("agent", error)
                    self.context.agent_breaker.failed(error)
                else:
                    self.context.agent_breaker.worked()
                    return await self._judge(draft, slot, deadline)
            if len(self.failures) >= limits.max_attempts:
                return self._failed(Outcome.INFRASTRUCTURE)
            await asyncio.sleep(backoff_s(limits, len(self.failures)))

    async def _act(self, slots: AsyncExitStack, deadline: Deadline) -> tuple[Trajectory, GradeSlot]:
        """One attempt of the agent: the trajectory with its patch, and the grading slot, which `slots` owns."""
        self._timer.restart()
        config, components, task = self.context.config, self.context.components, self.record.task
        limits = config.scheduling
        async with bounded("making the workspace", deadline.within(limits.setup_limit_s)):
            workspace = await asyncio.to_thread(components.workspace, task.id)
        spec = sandbox_spec(
            config, self.record, self.key.sample, run=self.context.run, role="agent", workspace=workspace
        )
        with self._timer.phase("prepare"):
            async with bounded("preparing the repository", deadline.within(limits.setup_limit_s)):
                spec = await self.context.layers.choose(spec, self.record, "agent", limits.setup_limit_s)
        async with self.context.gate.open(spec, self._timer) as sandbox:
            with self._timer.phase("prepare"):
                async with bounded("preparing the repository", deadline.within(limits.setup_limit_s)):
                    base = await components.prepare(sandbox, self.record)
            slot = await self._open_slot(slots, workspace)
            policy = self._policy()
            with self._timer.phase("agent"):
                agent_deadline = deadline.within(config.time_limit_s)
                async with bounded("the agent", deadline.within(config.time_limit_s + limits.guard_s)):
                    draft = await components.agent.run(
                        task, sandbox, policy, sample=self.key.sample, deadline=agent_deadline
                    )
                if draft.stop is Stop.TIME_LIMIT and not draft.responses:
                    raise InfrastructureError("the time limit came before the policy's first response")
            with self._timer.phase("patch"):
                async with bounded("capturing the patch", deadline.within(limits.setup_limit_s)):
                    patch = await components.capture(sandbox, task.workdir, base)
        return draft.model_copy(update={"patch": patch, "attempt": len(self.failures)}), slot

    async def _judge(self, draft: Trajectory, slot: GradeSlot, deadline: Deadline) -> Trajectory:
        """The terminal trajectory of a finished attempt."""
        if not needs_grading(draft):
            return graded(draft, None)
        limits, grading_slots = self.context.config.scheduling, self.context.grading_slots
        with self._timer.phase("grade_queue"):
            try:
                async with bounded("waiting to be graded", deadline.within(limits.grade_queue_limit_s)):
                    await grading_slots.acquire()
            except InfrastructureError as error:
                self._note("grading", error)
                return self._failed(Outcome.GRADER_FAILURE, draft)
        try:
            self.release_agent_slot()
            verdict = await self._verdict(draft.patch, slot, deadline)
        finally:
            grading_slots.release()
        if verdict is None:
            return self._failed(Outcome.GRADER_FAILURE, draft)
        return graded(draft.model_copy(update={"attempt": len(self.failures)}), verdict)

    async def _verdict(self, patch: str, slot: GradeSlot, deadline: Deadline) -> Verdict | None:
        """The verdict of the waiting slot or, if that fails, of a fresh one; None if every attempt failed."""
        limits = self.context.config.scheduling
        for attempt in range(1, limits.max_attempts + 1):
            try:
                async with AsyncExitStack() as slots:
                    if attempt > 1:
                        workspace = await asyncio.to_thread(self.context.components.workspace, self.record.task.id)
                        slot = await self._open_slot(slots, workspace)
                    verdict = await self._grade(patch, slot, deadline)
            except InfrastructureError as error:
                self._note("grading", error)
                self.context.grading_breaker.failed(error)
            else:
                self.context.grading_breaker.worked()
                return verdict
            if attempt < limits.max_attempts:
                await asyncio.sleep(backoff_s(limits, attempt))
        return None

    async def _grade(self, patch: str, slot: GradeSlot, deadline: Deadline) -> Verdict:
        limit = deadline.within(grade_attempt_s(self.context.config, self.record))
        with self._timer.phase("grade"):
            async with bounded("grading", limit):
                return await slot.grade(patch, limit)

    async def _open_slot(self, slots: AsyncExitStack, workspace: Path | None) -> GradeSlot:
        config, run = self.context.config, self.context.run
        spec = sandbox_spec(config, self.record, self.key.sample, run=run, role="grader", workspace=workspace)
        return await slots.enter_async_context(self.context.grader.slot(self.record, spec))

    def _policy(self) -> Policy:
        policy = self.context.components.policies(self.record, self.key.sample)
        self.model = policy.name
        return policy

    def _note(self, what: str, error: InfrastructureError) -> None:
        self.failures.append(f"{what}: {describe(error)}")
        self.context.progress.failed(str(self.key), self.failures[-1])

    def _failed(self, outcome: Outcome, draft: Trajectory | None = None) -> Trajectory:
        """The terminal trajectory of an infrastructure failure: no reward, no statement about the policy."""
        if draft is None:
            agent = self.context.components.agent.name
            draft = Trajectory(task_id=self.key.task_id, sample=self.key.sample, agent=agent, model=self.model)
        update = {"outcome": outcome, "error": "; ".join(self.failures), "attempt": max(0, len(self.failures) - 1)}
        return draft.model_copy(update=update)
