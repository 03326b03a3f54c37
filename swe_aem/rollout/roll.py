"""One trajectory: start, prepare, agent, capture, grade; retried where the fault is ours, and always with an end.

The agent's sandbox is gone before anything of the answer key enters the grading sandbox, which starts while the agent
works. A failed attempt of the agent is repeated from the start; a failed grade is repeated with the same patch.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from swe_aem.core import Deadline, Outcome, Policy, Stop, TaskRecord, Trajectory, TrajectoryKey, Verdict, bounded
from swe_aem.core.outcomes import graded, needs_grading
from swe_aem.errors import InfrastructureError
from swe_aem.rollout.board import Board
from swe_aem.rollout.breaker import Breaker, describe
from swe_aem.rollout.budget import backoff_s, grade_attempt_s, trajectory_s
from swe_aem.rollout.config import RolloutConfig
from swe_aem.rollout.crew import Crew, Grader, Slot
from swe_aem.rollout.gate import Gate
from swe_aem.rollout.spec import sandbox_spec
from swe_aem.rollout.timings import Timings


@dataclass(frozen=True)
class Desk:
    """What the trajectories of a run share."""

    config: RolloutConfig
    run: str
    """Id of the run, for labels."""
    crew: Crew
    gate: Gate
    grader: Grader
    grading: asyncio.Semaphore
    """Places for evaluation scripts."""
    agents: Breaker
    grades: Breaker
    board: Board


@dataclass
class Roll:
    """One (task, sample) on its way to a terminal trajectory."""

    desk: Desk
    record: TaskRecord
    sample: int
    give_up_place: Callable[[], None]
    """Called once the trajectory holds a place for grading: then another agent may start. Until then it is held, so
    that agents cannot run ahead of grading without bound."""
    failures: list[str] = field(default_factory=list)
    model: str = ""

    def __post_init__(self) -> None:
        self.id = str(TrajectoryKey(self.record.task.id, self.sample))
        self._timings = Timings(lambda name: self.desk.board.phase(self.id, name))

    async def run(self) -> Trajectory:
        """The terminal trajectory; an exception that leaves here is a bug, a `UserError`, or the breaker's."""
        deadline = Deadline.after(trajectory_s(self.desk.config, self.record))
        try:
            async with bounded(f"trajectory {self.id}", deadline):
                trajectory = await self._attempts(deadline)
        except InfrastructureError as error:  # only the budget's own: the attempts handle theirs
            self.failures.append(describe(error))
            trajectory = self._fault(Outcome.INFRASTRUCTURE)
        return trajectory.model_copy(update={"timings_s": self._timings.result(), "weight": self.record.weight})

    async def _attempts(self, deadline: Deadline) -> Trajectory:
        limits = self.desk.config.scheduling
        while True:
            async with AsyncExitStack() as slots:
                try:
                    draft, slot = await self._act(slots, deadline)
                except InfrastructureError as error:
                    self._note("agent", error)
                    self.desk.agents.failed(error)
                else:
                    self.desk.agents.worked()
                    return await self._judge(draft, slot, deadline)
            if len(self.failures) >= limits.max_attempts:
                return self._fault(Outcome.INFRASTRUCTURE)
            await asyncio.sleep(backoff_s(limits, len(self.failures)))

    async def _act(self, slots: AsyncExitStack, deadline: Deadline) -> tuple[Trajectory, Slot]:
        """One attempt of the agent: the trajectory with its patch, and the grading slot, which `slots` owns."""
        self._timings.restart()
        desk, task, limits = self.desk, self.record.task, self.desk.config.scheduling
        async with bounded("making the workspace", deadline.within(limits.setup_limit_s)):
            workspace = await asyncio.to_thread(desk.crew.workspace, task.id)
        spec = sandbox_spec(desk.config, self.record, self.sample, run=desk.run, role="agent", workspace=workspace)
        async with desk.gate.open(spec, self._timings) as sandbox:
            with self._timings.phase("prepare"):
                async with bounded("preparing the repository", deadline.within(limits.setup_limit_s)):
                    base = await desk.crew.prepare(sandbox, self.record)
            slot = await self._open_slot(slots, workspace)
            policy = self._policy()
            with self._timings.phase("agent"):
                agent_deadline = deadline.within(desk.config.time_limit_s)
                async with bounded("the agent", deadline.within(desk.config.time_limit_s + limits.guard_s)):
                    draft = await desk.crew.agent.run(
                        task, sandbox, policy, sample=self.sample, deadline=agent_deadline
                    )
                if draft.stop is Stop.TIME_LIMIT and not draft.responses:
                    raise InfrastructureError("the time limit came before the policy's first response")
            with self._timings.phase("patch"):
                async with bounded("capturing the patch", deadline.within(limits.setup_limit_s)):
                    patch = await desk.crew.capture(sandbox, task.workdir, base)
        return draft.model_copy(update={"patch": patch, "attempt": len(self.failures)}), slot

    async def _judge(self, draft: Trajectory, slot: Slot, deadline: Deadline) -> Trajectory:
        """The terminal trajectory of a finished attempt."""
        if not needs_grading(draft):
            return graded(draft, None)
        limits = self.desk.config.scheduling
        with self._timings.phase("grade_queue"):
            try:
                async with bounded("waiting to be graded", deadline.within(limits.grade_queue_limit_s)):
                    await self.desk.grading.acquire()
            except InfrastructureError as error:
                self._note("grading", error)
                return self._fault(Outcome.GRADER_FAILURE, draft)
        try:
            self.give_up_place()
            verdict = await self._verdict(draft.patch, slot, deadline)
        finally:
            self.desk.grading.release()
        if verdict is None:
            return self._fault(Outcome.GRADER_FAILURE, draft)
        return graded(draft.model_copy(update={"attempt": len(self.failures)}), verdict)

    async def _verdict(self, patch: str, slot: Slot, deadline: Deadline) -> Verdict | None:
        """The verdict of the waiting slot or, if that fails, of a fresh one; None if every attempt failed."""
        limits = self.desk.config.scheduling
        for attempt in range(1, limits.max_attempts + 1):
            try:
                async with AsyncExitStack() as slots:
                    if attempt > 1:
                        workspace = await asyncio.to_thread(self.desk.crew.workspace, self.record.task.id)
                        slot = await self._open_slot(slots, workspace)
                    verdict = await self._grade(patch, slot, deadline)
            except InfrastructureError as error:
                self._note("grading", error)
                self.desk.grades.failed(error)
            else:
                self.desk.grades.worked()
                return verdict
            if attempt < limits.max_attempts:
                await asyncio.sleep(backoff_s(limits, attempt))
        return None

    async def _grade(self, patch: str, slot: Slot, deadline: Deadline) -> Verdict:
        limit = deadline.within(grade_attempt_s(self.desk.config, self.record))
        with self._timings.phase("grade"):
            async with bounded("grading", limit):
                return await slot.grade(patch, limit)

    async def _open_slot(self, slots: AsyncExitStack, workspace: Path | None) -> Slot:
        desk = self.desk
        spec = sandbox_spec(desk.config, self.record, self.sample, run=desk.run, role="grader", workspace=workspace)
        return await slots.enter_async_context(desk.grader.slot(self.record, spec))

    def _policy(self) -> Policy:
        policy = self.desk.crew.policies(self.record, self.sample)
        self.model = policy.name
        return policy

    def _note(self, what: str, error: InfrastructureError) -> None:
        self.failures.append(f"{what}: {describe(error)}")
        self.desk.board.failed(self.id, self.failures[-1])

    def _fault(self, outcome: Outcome, draft: Trajectory | None = None) -> Trajectory:
        """The terminal trajectory of a fault of ours: no reward, no statement about the policy."""
        if draft is None:
            draft = Trajectory(
                task_id=self.record.task.id, sample=self.sample, agent=self.desk.crew.agent.name, model=self.model
            )
        update = {"outcome": outcome, "error": "; ".join(self.failures), "attempt": max(0, len(self.failures) - 1)}
        return draft.model_copy(update=update)
