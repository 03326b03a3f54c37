"""`TrajectoryRun`: one trajectory: start, prepare, agent, capture, grade; retried after infrastructure failures.

The agent's sandbox is gone before anything of the answer key enters the grading sandbox, which starts while the agent
works. Whose failure it was is found out by `Attribution`: a failed attempt of the agent is repeated from the start, a
failed grade with the same patch (`PatchGrading`), unless the policy caused it. Every run ends with a terminal
trajectory.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from swe_aem.agent import is_own_agent
from swe_aem.core import (
    AnyPolicy,
    Deadline,
    Outcome,
    SandboxSpec,
    Stop,
    TaskRecord,
    Trajectory,
    TrajectoryKey,
    bounded,
    sandbox_for,
    unavailable_reason,
)
from swe_aem.core.outcomes import graded, needs_grading
from swe_aem.errors import (
    BudgetSpent,
    ExtensionFailed,
    HarnessError,
    HarnessRaised,
    InfrastructureError,
    PolicyError,
    SandboxDead,
    SweAemError,
    TaskUnusable,
    UserError,
)
from swe_aem.grading import CapturedWork, GradeSlot
from swe_aem.harness import BUNDLED
from swe_aem.policy import is_own_policy
from swe_aem.rollout.agent_clock import AgentClock
from swe_aem.rollout.attribution import ROUNDS_THAT_DECIDE, Attempt, Finding, Suspicion
from swe_aem.rollout.breaker import describe
from swe_aem.rollout.budget import agent_wall_s, backoff_s, sandbox_spec, trajectory_s
from swe_aem.rollout.causes import counted
from swe_aem.rollout.companions import Companion
from swe_aem.rollout.components import RolloutComponents
from swe_aem.rollout.config import RolloutConfig
from swe_aem.rollout.failures import Failures
from swe_aem.rollout.gate import PhaseTimer, StartGate
from swe_aem.rollout.metered import metered
from swe_aem.rollout.patch_grading import GradingContext, PatchGrading
from swe_aem.rollout.recording import RecordingSandbox
from swe_aem.rollout.roller import RunState


class _WaitedTooLong(PolicyError):
    """An agent used up its wall time."""


@dataclass(frozen=True)
class RunContext:
    """What the trajectories of a run share in one process."""

    config: RolloutConfig
    run: str
    """Id of the run, for labels."""
    components: RolloutComponents
    gate: StartGate
    grading: GradingContext
    grading_slots: asyncio.Semaphore
    """Bounds the evaluation scripts that run at once. A control takes no slot of its own, which could wait for ever:
    whoever asks for it in grading holds one, and waits. Only after `grade_queue_limit_s` without a slot is one asked
    for beside them."""
    state: RunState
    worked_s: Callable[[], float]
    """When a trajectory that says something of the policy last came to its end, on the monotonic clock."""


@dataclass
class TrajectoryRun:
    """One trajectory on its way to a terminal state."""

    context: RunContext
    record: TaskRecord
    key: TrajectoryKey
    release_agent_slot: Callable[[], None]
    """Frees the agent slot, so that another agent may start. Called only after a grading slot is held, so that finished
    agents cannot pile up."""
    earlier: tuple[str, ...] = ()
    """Failed attempts that another process made, each as one phrase."""
    left_s: float | None = None
    """What those have left of its time; None: all."""
    model: str = ""
    """Name of the policy, once there is one."""
    log: bytes = b""
    """The kept log of its evaluation, once there is one."""
    settled: bool = True
    """May the terminal trajectory be stored? Not a failure for which the infrastructure was not seen to work since."""

    def __post_init__(self) -> None:
        self._timer = PhaseTimer(self._enter, self._left)
        self._suspicion = Suspicion()
        self._failures = Failures(self.key, self.context.state.watcher.failed, said=list(self.earlier))

    def _enter(self, phase: str) -> None:
        self._failures.phase = phase
        self.context.state.watcher.phase(str(self.key), phase)

    def _left(self, phase: str, began_s: float, seconds: float) -> None:
        self.context.state.watcher.phase_ended(self.key, len(self._failures.said) + 1, phase, began_s, seconds)

    async def run(self) -> Trajectory:
        """The terminal trajectory, without its reward. An exception that leaves here is a bug, a `UserError`,
        `ExtensionFailed` for code of the user's own, `RunAborted`, or `BudgetSpent`: then there is none."""
        with self._failures.surfacing():
            why = await self.context.grading.broken.why(self.record)
            trajectory = await self._attempts() if why is None else self._broken(why, None)
        return trajectory.model_copy(update={"timings_s": self._timer.result(), "weight": self.record.weight})

    async def _attempts(self) -> Trajectory:
        limits = self.context.config.scheduling
        budget = Deadline.after(trajectory_s(self.context.config) if self.left_s is None else self.left_s)
        while True:
            attempt = self.context.grading.attribution.begin()
            async with AsyncExitStack() as companions:
                if self._suspicion.agent.suspected:
                    attempt.companion = await companions.enter_async_context(self._companion())
                async with AsyncExitStack() as slots:
                    try:
                        async with bounded(f"trajectory {self.key}", budget):
                            draft, work, slot = await self._act(slots, attempt, budget)
                    except BudgetSpent:
                        raise
                    except InfrastructureError as error:
                        failure = error
                    else:
                        self.context.state.spending.end(self.key, finished=True)
                        self.context.state.agent_breaker.worked()
                        await companions.aclose()
                        return await self._judge(draft, work, slot)
                began_s = time.monotonic()
                finding = await self._blame(attempt, failure)
            if finding.blame == "policy":
                return self._killed(attempt, finding)
            budget = budget.postponed(time.monotonic() - began_s)  # a control uses nothing of the trajectory's
            most = limits.max_attempts + (ROUNDS_THAT_DECIDE if self._suspicion.agent.open else 0)
            if len(self._failures.said) >= most or budget.expired():
                return await self._given_up(Outcome.INFRASTRUCTURE, failure)
            self.context.state.spending.again(self.key)
            await asyncio.sleep(backoff_s(limits, min(len(self._failures.said), limits.max_attempts)))

    async def _act(
        self, slots: AsyncExitStack, attempt: Attempt, budget: Deadline
    ) -> tuple[Trajectory, CapturedWork, GradeSlot]:
        """One attempt of the agent: the trajectory, what it did, and the grading slot, which `slots` owns."""
        self._timer.restart()
        config, agent = self.context.config, self.context.components.agent
        limits = config.scheduling
        async with bounded("making the workspace", budget.within(limits.setup_limit_s)):
            workspace = await self._workspace()
        spec = sandbox_spec(
            config, self.record, self.key.sample, run=self.context.run, role="agent", workspace=workspace
        )
        with self._timer.phase("prepare"):
            async with bounded("preparing the repository", budget.within(limits.setup_limit_s)):
                spec = await self.context.grading.grader.layers.choose(spec, self.record, "agent")
        with sandbox_for(agent, spec, self.key) as wanted:
            return await self._act_in(wanted, workspace, slots, attempt, budget)

    async def _act_in(
        self, spec: SandboxSpec, workspace: Path | None, slots: AsyncExitStack, attempt: Attempt, budget: Deadline
    ) -> tuple[Trajectory, CapturedWork, GradeSlot]:
        """`_act` in a sandbox of that spec, once there is a workspace."""
        components, task = self.context.components, self.record.task
        limits = self.context.config.scheduling
        async with self.context.gate.open(spec, self._timer) as sandbox:
            with self._timer.phase("prepare"):
                async with bounded("preparing the repository", budget.within(limits.setup_limit_s)):
                    given = await components.prepare(sandbox, self.record)
            slot = await self._open_slot(slots, workspace)
            clock = AgentClock(self.context.config.time_limit_s)
            attempt.sandbox = RecordingSandbox(sandbox, clock, self.context.grading.starvation.add)
            attempt.draft = await self._draft(attempt.sandbox, clock, budget)
            if attempt.draft.stop is Stop.SANDBOX_DEAD:
                raise attempt.sandbox.recording.lost or SandboxDead(attempt.draft.error or "the sandbox is gone")
            with self._timer.phase("patch"):
                async with bounded("capturing the patch", budget.within(limits.setup_limit_s)):
                    work = await components.capture(sandbox, task.workdir, given)
        return attempt.draft.model_copy(update={"attempt": len(self._failures.said)}), work, slot

    async def _draft(self, sandbox: RecordingSandbox, clock: AgentClock, budget: Deadline) -> Trajectory:
        """What the agent hands over."""
        config, policy = self.context.config, self._policy(clock)
        with self._timer.phase("agent"):
            async with (
                self._wall_time(policy, budget.within(agent_wall_s(config))),
                bounded("the agent", clock.deadline.postponed(config.scheduling.guard_s)),
            ):
                with self._own_agents_errors():
                    draft = await self.context.components.agent.run(
                        self.record.task, sandbox, policy, sample=self.key.sample, deadline=clock.deadline
                    )
        if draft.stop is Stop.TIME_LIMIT and not draft.responses:
            raise InfrastructureError("the time limit came before the policy's first response")
        if draft.stop is Stop.SANDBOX_DEAD and not draft.responses:
            raise SandboxDead(draft.error or "the sandbox was gone before the policy's first response")
        return draft

    @asynccontextmanager
    async def _wall_time(self, policy: AnyPolicy, limit: Deadline) -> AsyncIterator[None]:
        """Ends the body, whatever it waits for; raises `PolicyError`, for that is nearly always a response."""
        try:
            async with bounded("the agent, with its waiting for responses and processors,", limit, _WaitedTooLong):
                yield
        except _WaitedTooLong as error:
            reason = unavailable_reason(policy)
            raise PolicyError(f"{error}: {reason}" if reason else str(error)) from error

    @contextmanager
    def _own_agents_errors(self) -> Iterator[None]:
        """What code of a user's own raises in the body ends the run: trying it again shows the same."""
        name = self.context.config.agent_name
        try:
            yield
        except HarnessRaised as error:
            if name in BUNDLED:
                raise
            raise ExtensionFailed(f"agent {name}: {error}") from None
        except SweAemError:
            raise
        except Exception as error:
            if not is_own_agent(name):
                raise
            raise ExtensionFailed(f"agent {name} raised {describe(error)}") from error

    async def _workspace(self) -> Path | None:
        try:
            return await asyncio.to_thread(self.context.components.workspace, self.record.task.id)
        except UserError as error:
            raise TaskUnusable(str(error)) from error

    async def _blame(self, attempt: Attempt, error: InfrastructureError) -> Finding:
        """Whose failure a failed attempt of the agent was."""
        context = self.context
        finding = await context.grading.attribution.of_agent(self.record, self.key, attempt, self._suspicion, error)
        if finding.blame == "infrastructure":
            self._failures.note("agent", error, finding)
        else:
            self._failures.convicted("agent", error, finding)
        if finding.blame == "policy" or finding.works:
            context.state.agent_breaker.worked()
        else:
            context.state.agent_breaker.failed(error, self.record.task.id)
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
                self._failures.note("grading", error)
                return await self._given_up(Outcome.GRADER_FAILURE, error, draft)
        try:
            self.release_agent_slot()
            return await self._concluded(draft, work, slot)
        finally:
            grading_slots.release()

    async def _concluded(self, draft: Trajectory, work: CapturedWork, slot: GradeSlot) -> Trajectory:
        """The terminal trajectory of a draft whose work is graded now."""
        grading = PatchGrading(
            self.context.grading,
            self.record,
            self.key.sample,
            self._timer,
            self._failures,
            wanted=lambda patch: needs_grading(draft.model_copy(update={"patch": patch})),
        )
        try:
            end = await grading.run(work, slot)
        except InfrastructureError as error:
            with_patch = draft.model_copy(update={"patch": grading.patch})
            return await self._given_up(Outcome.GRADER_FAILURE, error, with_patch)
        finally:
            self.log = grading.log
        done = draft.model_copy(update={"patch": grading.patch})
        if end.broken is not None:
            return self._broken(end.broken, done)
        done = done.model_copy(update={"attempt": len(self._failures.said)})
        return graded(done, end.verdict)

    async def _open_slot(self, slots: AsyncExitStack, workspace: Path | None) -> GradeSlot:
        return await slots.enter_async_context(self.context.grading.slot(self.record, self.key.sample, workspace))

    def _companion(self) -> AbstractAsyncContextManager[Companion]:
        return self.context.grading.attribution.trials.sandbox_companion(self.record)

    def _policy(self, clock: AgentClock) -> AnyPolicy:
        context = self.context
        policy = context.components.policies(self.record, self.key.sample)
        self.model = policy.name
        name = context.config.policy_name
        own = name if is_own_policy(name) else None
        return metered(policy, self.key, context.state.spending, context.state.first_answer, clock, own=own)

    def _killed(self, attempt: Attempt, finding: Finding) -> Trajectory:
        """The terminal trajectory of a policy that killed its sandbox, with all that it sampled."""
        assert attempt.draft is not None
        update = {"outcome": Outcome.SANDBOX_KILLED, "error": finding.why, "attempt": len(self._failures.said)}
        return attempt.draft.model_copy(update=update)

    def _broken(self, why: str, draft: Trajectory | None) -> Trajectory:
        """The terminal trajectory of a broken task."""
        update = {"outcome": Outcome.BROKEN_TASK, "error": why, "attempt": len(self._failures.said)}
        return (draft or self._nothing()).model_copy(update=update)

    async def _given_up(
        self, outcome: Outcome, error: InfrastructureError, draft: Trajectory | None = None
    ) -> Trajectory:
        """The terminal trajectory of a failure that no retry cured: no reward, no statement about the policy. It may be
        stored if a control works now, or another trajectory worked while this one failed: then it is the task that is
        odd. Whether a policy or a harness works, neither says."""
        grading = outcome is Outcome.GRADER_FAILURE
        self.settled = not isinstance(error, (PolicyError, HarnessError)) and (
            self.context.worked_s() > self._failures.since_s
            or await self.context.grading.attribution.works(self.record, grading=grading)
        )
        update = {
            "outcome": outcome,
            "error": counted(self._failures.said),
            "attempt": max(0, len(self._failures.said) - 1),
        }
        return (draft or self._nothing()).model_copy(update=update)

    def _nothing(self) -> Trajectory:
        """A trajectory in which nothing was sampled."""
        agent = self.context.components.agent.name
        return Trajectory(task_id=self.key.task_id, sample=self.key.sample, agent=agent, model=self.model)
