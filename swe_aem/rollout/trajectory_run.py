"""`TrajectoryRun`: one trajectory: start, prepare, agent, capture, grade; retried after infrastructure failures.

The agent's sandbox is gone before anything of the answer key enters the grading sandbox, which starts while the agent
works. Whose failure it was is found out by `Attribution`: a failed attempt of the agent is repeated from the start, a
failed grade with the same patch, unless the policy caused it. Every run ends with a terminal trajectory.
"""

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from swe_aem.core import (
    Deadline,
    Outcome,
    Policy,
    Sandbox,
    Stop,
    TaskRecord,
    TestStatus,
    Trajectory,
    TrajectoryKey,
    Verdict,
    bounded,
)
from swe_aem.core.outcomes import graded, needs_grading, reward_of
from swe_aem.errors import HarnessError, InfrastructureError, PolicyError, SandboxDead
from swe_aem.grading import CapturedWork, Delta, Grader, GradeSlot
from swe_aem.rollout.attribution import LOSSES_THAT_DECIDE, Attempt, Attribution, Finding, GradeStart, Suspicion
from swe_aem.rollout.breaker import Breaker, describe
from swe_aem.rollout.broken_tasks import BrokenTasks
from swe_aem.rollout.budget import backoff_s, grade_attempt_s, sandbox_spec, start_s, trajectory_s
from swe_aem.rollout.components import RolloutComponents
from swe_aem.rollout.config import RolloutConfig
from swe_aem.rollout.gate import PhaseTimer, StartGate
from swe_aem.rollout.progress import RunProgress
from swe_aem.rollout.recording import RecordingSandbox


@dataclass(frozen=True)
class RunContext:
    """State shared by all trajectories of a run."""

    config: RolloutConfig
    run: str
    """Id of the run, for labels."""
    components: RolloutComponents
    gate: StartGate
    grader: Grader
    grading_slots: asyncio.Semaphore
    """Bounds the evaluation scripts that run at once. A control takes no slot of its own, which could wait for ever:
    whoever asks for it in grading holds one, and waits. Only after `grade_queue_limit_s` without a slot is one asked
    for beside them."""
    agent_breaker: Breaker
    grading_breaker: Breaker
    attribution: Attribution
    broken: BrokenTasks
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
    patch: str = ""
    """What the agent changed, as text, once it has been compared with what was given."""
    settled: bool = True
    """May the terminal trajectory be stored? Not a failure for which the infrastructure was not seen to work since."""

    def __post_init__(self) -> None:
        self._timer = PhaseTimer(lambda name: self.context.progress.phase(str(self.key), name))
        self._suspicion = Suspicion()
        self._own_limits = False  # did the sandbox of the last grade hit its limits?
        self._failing_since_s = math.inf

    async def run(self) -> Trajectory:
        """The terminal trajectory. An exception that leaves here is a bug, a `UserError`, or `RunAborted`."""
        why = await self.context.broken.why(self.record)
        trajectory = await self._attempts() if why is None else self._broken(why, None)
        return trajectory.model_copy(update={"timings_s": self._timer.result(), "weight": self.record.weight})

    async def _attempts(self) -> Trajectory:
        limits = self.context.config.scheduling
        budget = Deadline.after(trajectory_s(self.context.config))
        while True:
            attempt = self.context.attribution.begin()
            async with AsyncExitStack() as slots:
                try:
                    async with bounded(f"trajectory {self.key}", budget):
                        draft, work, slot = await self._act(slots, attempt, budget)
                except InfrastructureError as error:
                    failure = error
                else:
                    self.context.agent_breaker.worked()
                    return await self._judge(draft, work, slot)
            began_s = time.monotonic()
            finding = await self._blame(attempt, failure)
            if finding.blame == "policy":
                return self._killed(attempt, finding)
            budget = budget.postponed(time.monotonic() - began_s)  # a control uses nothing of the trajectory's
            if len(self.failures) >= limits.max_attempts or budget.expired():
                return await self._given_up(Outcome.INFRASTRUCTURE, failure)
            await asyncio.sleep(backoff_s(limits, len(self.failures)))

    async def _act(
        self, slots: AsyncExitStack, attempt: Attempt, budget: Deadline
    ) -> tuple[Trajectory, CapturedWork, GradeSlot]:
        """One attempt of the agent: the trajectory, what it did, and the grading slot, which `slots` owns."""
        self._timer.restart()
        config, components, task = self.context.config, self.context.components, self.record.task
        limits = config.scheduling
        async with bounded("making the workspace", budget.within(limits.setup_limit_s)):
            workspace = await asyncio.to_thread(components.workspace, task.id)
        spec = sandbox_spec(
            config, self.record, self.key.sample, run=self.context.run, role="agent", workspace=workspace
        )
        with self._timer.phase("prepare"):
            async with bounded("preparing the repository", budget.within(limits.setup_limit_s)):
                spec = await self.context.grader.layers.choose(spec, self.record, "agent")
        async with self.context.gate.open(spec, self._timer) as sandbox:
            with self._timer.phase("prepare"):
                async with bounded("preparing the repository", budget.within(limits.setup_limit_s)):
                    given = await components.prepare(sandbox, self.record)
            slot = await self._open_slot(slots, workspace)
            attempt.sandbox = RecordingSandbox(sandbox)
            attempt.draft = await self._draft(attempt.sandbox, budget)
            if attempt.draft.stop is Stop.SANDBOX_DEAD:
                raise attempt.sandbox.recording.lost or SandboxDead(attempt.draft.error or "the sandbox is gone")
            with self._timer.phase("patch"):
                async with bounded("capturing the patch", budget.within(limits.setup_limit_s)):
                    work = await components.capture(sandbox, task.workdir, given)
        return attempt.draft.model_copy(update={"attempt": len(self.failures)}), work, slot

    async def _draft(self, sandbox: RecordingSandbox, budget: Deadline) -> Trajectory:
        """What the agent hands over."""
        config, policy = self.context.config, self._policy()
        with self._timer.phase("agent"):
            deadline = budget.within(config.time_limit_s)
            async with bounded("the agent", budget.within(config.time_limit_s + config.scheduling.guard_s)):
                draft = await self.context.components.agent.run(
                    self.record.task, sandbox, policy, sample=self.key.sample, deadline=deadline
                )
        if draft.stop is Stop.TIME_LIMIT and not draft.responses:
            raise InfrastructureError("the time limit came before the policy's first response")
        if draft.stop is Stop.SANDBOX_DEAD and not draft.responses:
            raise SandboxDead(draft.error or "the sandbox was gone before the policy's first response")
        return draft

    async def _blame(self, attempt: Attempt, error: InfrastructureError) -> Finding:
        """Whose failure a failed attempt of the agent was."""
        context = self.context
        finding = await context.attribution.of_agent(self.record, self.key, attempt, self._suspicion, error)
        if finding.blame == "infrastructure":
            self._note("agent", error, finding)
        if finding.blame == "policy" or finding.works:
            context.agent_breaker.worked()
        else:
            context.agent_breaker.failed(error)
        return finding

    async def _judge(self, draft: Trajectory, work: CapturedWork, slot: GradeSlot) -> Trajectory:
        """The terminal trajectory of a finished attempt."""
        if work.empty:
            return graded(draft, None)
        limits, grading_slots = self.context.config.scheduling, self.context.grading_slots
        with self._timer.phase("grade_queue"):
            try:
                async with bounded("waiting to be graded", Deadline.after(limits.grade_queue_limit_s)):
                    await grading_slots.acquire()
            except InfrastructureError as error:
                self._note("grading", error)
                return await self._given_up(Outcome.GRADER_FAILURE, error, draft)
        try:
            self.release_agent_slot()
            return await self._concluded(draft, work, slot)
        finally:
            grading_slots.release()

    async def _concluded(self, draft: Trajectory, work: CapturedWork, slot: GradeSlot) -> Trajectory:
        """The terminal trajectory of a draft whose work is graded now."""
        if why := await self.context.broken.why(self.record):  # found out while the agent worked
            return self._broken(why, draft)
        try:
            verdict = await self._verdict(draft, work, slot)
            why = await self._why_broken(verdict) if verdict is not None else None
        except InfrastructureError as error:
            return await self._given_up(Outcome.GRADER_FAILURE, error, self._with_patch(draft))
        if why is not None:
            return self._broken(why, self._with_patch(draft))
        done = self._with_patch(draft).model_copy(update={"attempt": len(self.failures)})
        return graded(done, verdict, partial=self.context.config.reward == "fraction")

    def _with_patch(self, draft: Trajectory) -> Trajectory:
        return draft.model_copy(update={"patch": self.patch})

    async def _why_broken(self, verdict: Verdict) -> str | None:
        """Why the task is broken, if that is what the verdict shows; raises the last `InfrastructureError` if no
        attempt found that out."""
        limits, attempt = self.context.config.scheduling, 0
        while True:
            attempt += 1
            try:
                with self._timer.phase("grade"):
                    return await self.context.broken.explains(self.record, verdict, own_limits=self._own_limits)
            except InfrastructureError as error:
                self._note("grading", error)
                if attempt >= limits.max_attempts:
                    raise
            await asyncio.sleep(backoff_s(limits, attempt))

    async def _verdict(self, draft: Trajectory, work: CapturedWork, slot: GradeSlot) -> Verdict | None:
        """The verdict of the waiting slot or, if that fails, of fresh ones; None if none is needed. Raises the last
        `InfrastructureError` if every attempt failed."""
        limits, attempt, starved = self.context.config.scheduling, 0, False
        while True:
            attempt += 1
            try:
                async with AsyncExitStack() as slots:
                    if attempt > 1:
                        workspace = await asyncio.to_thread(self.context.components.workspace, self.record.task.id)
                        slot = await self._open_slot(slots, workspace)
                    verdict = await self._attributed(draft, work, slot)
            except InfrastructureError:
                more = LOSSES_THAT_DECIDE if self._suspicion.undecided else 0  # one grade alone convicts nobody
                if attempt >= limits.max_attempts + more:
                    raise
                await asyncio.sleep(backoff_s(limits, min(attempt, limits.max_attempts)))
            else:
                self.context.grading_breaker.worked()
                if verdict is None or starved or not _starved(verdict):
                    return verdict
                starved = True

    async def _attributed(self, draft: Trajectory, work: CapturedWork, slot: GradeSlot) -> Verdict | None:
        """One attempt to grade. A failure that is the policy's doing is a verdict; any other is raised."""
        attribution, since = self.context.attribution, self.context.attribution.memory.mark()
        start, finding, entered = None, None, False
        try:
            sandbox = await self._ready(slot)
            start = GradeStart(sandbox, since, await sandbox.limit_hits())
            delta = await self._delta(work, slot)
            if not needs_grading(self._with_patch(draft)):
                return None
            with self._timer.phase("grade"):
                await slot.judge_names(delta)  # a control uses nothing of the grade's budget
            entered = True
            verdict = await self._grade(delta, slot)
            self._own_limits = await start.hit_its_limits()
            return verdict
        except InfrastructureError as error:
            if isinstance(error, SandboxDead) and not entered:
                await attribution.lost_without_policy(self.record)
            elif start is not None:
                finding = await attribution.of_grading(self.record, start, self._suspicion, error)
                if finding.blame == "policy":
                    self._own_limits = await start.hit_its_limits()
                    return _convicted(self.record, finding.why)
            self._note("grading", error, finding)
            self.context.grading_breaker.failed(error)
            raise

    async def _ready(self, slot: GradeSlot) -> Sandbox:
        """The slot's sandbox, once it has started, and if it lives; nothing of the patch is in it yet."""
        async with bounded("starting a grading sandbox", Deadline.after(start_s(self.context.config))):
            sandbox = await slot.sandbox()
        if not await sandbox.alive():
            raise SandboxDead(f"sandbox {sandbox.id} was lost while it waited")
        return sandbox

    async def _delta(self, work: CapturedWork, slot: GradeSlot) -> Delta:
        """What the work changes, against the slot's sandbox; sets `patch`."""
        limit = Deadline.after(self.context.config.scheduling.setup_limit_s)
        with self._timer.phase("patch"):
            async with bounded("comparing the work with what was given", limit):
                delta = await slot.delta(work)
        self.patch = delta.patch
        return delta

    async def _grade(self, patch: Delta, slot: GradeSlot) -> Verdict:
        limit = Deadline.after(grade_attempt_s(self.context.config, self.record))
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

    def _note(self, what: str, error: InfrastructureError, finding: Finding | None = None) -> None:
        """Record an infrastructure failure, with what else is known of it."""
        why = describe(error)
        if finding is not None and finding.why != why:
            why = f"{why} ({finding.why})"
        self._failing_since_s = min(self._failing_since_s, time.monotonic())
        self.failures.append(f"{what}: {why}")
        self.context.progress.failed(str(self.key), self.failures[-1])

    def _killed(self, attempt: Attempt, finding: Finding) -> Trajectory:
        """The terminal trajectory of a policy that killed its sandbox, with all that it sampled."""
        assert attempt.draft is not None
        outcome = Outcome.SANDBOX_KILLED
        update = {"outcome": outcome, "reward": reward_of(outcome, None), "error": finding.why}
        return attempt.draft.model_copy(update={**update, "attempt": len(self.failures)})

    def _broken(self, why: str, draft: Trajectory | None) -> Trajectory:
        """The terminal trajectory of a broken task."""
        update = {"outcome": Outcome.BROKEN_TASK, "reward": None, "error": why, "attempt": len(self.failures)}
        return (draft or self._nothing()).model_copy(update=update)

    async def _given_up(
        self, outcome: Outcome, error: InfrastructureError, draft: Trajectory | None = None
    ) -> Trajectory:
        """The terminal trajectory of a failure that no retry cured: no reward, no statement about the policy. It may be
        stored if a control works now, or another trajectory worked while this one failed: then it is the task that is
        odd. Whether a policy or a harness works, neither says."""
        grading = outcome is Outcome.GRADER_FAILURE
        self.settled = not isinstance(error, (PolicyError, HarnessError)) and (
            self.context.progress.worked_s > self._failing_since_s
            or await self.context.attribution.works(self.record, grading=grading)
        )
        update = {"outcome": outcome, "error": "; ".join(self.failures), "attempt": max(0, len(self.failures) - 1)}
        return (draft or self._nothing()).model_copy(update=update)

    def _nothing(self) -> Trajectory:
        """A trajectory in which nothing was sampled."""
        agent = self.context.components.agent.name
        return Trajectory(task_id=self.key.task_id, sample=self.key.sample, agent=agent, model=self.model)


def _starved(verdict: Verdict) -> bool:
    """May a patch that was found not to resolve the task have been kept from it by a lack of processor?"""
    unresolved = not (verdict.resolved or verdict.timed_out or verdict.integrity)
    return unresolved and verdict.starved


def _convicted(record: TaskRecord, why: str) -> Verdict:
    """The verdict on a patch that keeps its grading from coming to results."""
    return Verdict(
        resolved=False,
        patch_applied=True,
        fail_to_pass=dict.fromkeys(record.key.fail_to_pass, TestStatus.MISSING),
        pass_to_pass=dict.fromkeys(record.key.pass_to_pass, TestStatus.MISSING),
        cause=why,
    )
