"""`PatchGrading`: one patch on its way to a verdict, in as many fresh sandboxes as that takes.

Rollouts grade through it, and so does `swe-aem grade`. Whose failure a failed grade was is found out by `Attribution`:
it is repeated with the same patch, unless the patch caused it. A verdict that a broken task would explain is checked
with controls.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from swe_aem.core import Deadline, Sandbox, SandboxBackend, TaskRecord, TestStatus, Verdict, bounded
from swe_aem.errors import InfrastructureError, SandboxDead
from swe_aem.grading import CapturedWork, Delta, Grader, GradeSlot, NotApplied
from swe_aem.rollout.attribution import ROUNDS_THAT_DECIDE, Attribution, GradeStart, Suspicion
from swe_aem.rollout.breaker import Breaker
from swe_aem.rollout.broken_tasks import BrokenTasks
from swe_aem.rollout.budget import backoff_s, grade_attempt_s, sandbox_spec, start_s, twins_s
from swe_aem.rollout.companions import Companion
from swe_aem.rollout.components import GradingComponents
from swe_aem.rollout.config import RolloutConfig
from swe_aem.rollout.controls import Controls
from swe_aem.rollout.failures import Failures
from swe_aem.rollout.gate import PhaseTimer, StartGate
from swe_aem.rollout.starvation import Starvation
from swe_aem.rollout.trials import Trials


@dataclass(frozen=True)
class GradingContext:
    """State shared by all gradings of a run."""

    config: RolloutConfig
    run: str
    """Id of the run, for labels."""
    components: GradingComponents
    grader: Grader
    breaker: Breaker
    attribution: Attribution
    broken: BrokenTasks
    starvation: Starvation

    @asynccontextmanager
    async def slot(self, record: TaskRecord, sample: int, workspace: Path | None) -> AsyncIterator[GradeSlot]:
        """A slot that grades one patch, its sandbox started in the background."""
        spec = sandbox_spec(self.config, record, sample, run=self.run, role="grader", workspace=workspace)
        async with self.grader.slot(record, spec, max_log_bytes=self.config.max_log_bytes) as slot:
            yield slot


def grading_context(
    config: RolloutConfig,
    run: str,
    components: GradingComponents,
    backend: SandboxBackend,
    gate: StartGate,
    grader: Grader,
    controls: Controls,
    directory: Path,
    tell: Callable[[str], None],
    *,
    breaker: Breaker | None = None,
) -> GradingContext:
    """What a run shares. `gate` stands in front of `backend`; `directory` keeps what is known of broken tasks, and
    `tell` is told of them. The `breaker` counts failed grades, by default as for a run of one task."""
    trials = Trials(config, run, components, gate, grader, controls)
    return GradingContext(
        config=config,
        run=run,
        components=components,
        grader=grader,
        breaker=breaker or grading_breaker(config),
        attribution=Attribution(backend, trials),
        broken=BrokenTasks(directory, backend, trials, tell),
        starvation=Starvation(tell),
    )


def grading_breaker(config: RolloutConfig, tasks: int = 1) -> Breaker:
    """Counts failed grades of a run of so many tasks."""
    return Breaker("grade a patch", config.consecutive_failures, tasks=tasks)


class PatchGraded(NamedTuple):
    """How the grading of a patch ended."""

    verdict: Verdict | None
    """None if none was needed, or the task is broken."""
    broken: str | None
    """Why the task is broken, if it is."""


class PatchGrading:
    """One patch on its way to a verdict. Use once."""

    def __init__(
        self,
        context: GradingContext,
        record: TaskRecord,
        sample: int,
        timer: PhaseTimer,
        failures: Failures,
        *,
        wanted: Callable[[str], bool] = lambda patch: True,
    ) -> None:
        """`wanted` is asked whether a patch needs a verdict, once its text is known."""
        self.patch = ""
        """The patch as text, once work has been compared with what was given."""
        self.log = b""
        """The kept log of the last attempt; empty if it came to no evaluation."""
        self._context = context
        self._record = record
        self._sample = sample
        self._timer = timer
        self._failures = failures
        self._wanted = wanted
        self._suspicion = Suspicion()
        self._own_limits = False  # did the sandbox of the last grade hit its limits?

    async def run(self, work: CapturedWork | str, slot: GradeSlot | None = None) -> PatchGraded:
        """Grade what an agent did, or a foreign patch. The first attempt uses `slot` if one is given.

        Raises the last `InfrastructureError` if every attempt failed, and `RunAborted`.
        """
        if why := await self._context.broken.why(self._record):  # found out while an agent worked, or by another run
            return PatchGraded(None, why)
        verdict = await self._verdict(work, slot)
        why = await self._why_broken(verdict) if verdict is not None else None
        return PatchGraded(None if why is not None else verdict, why)

    async def _verdict(self, work: CapturedWork | str, slot: GradeSlot | None) -> Verdict | None:
        """The verdict of the waiting slot or, if that fails, of fresh ones; None if none is needed. Raises the last
        `InfrastructureError` if every attempt failed."""
        limits, attempt, starved = self._context.config.scheduling, 0, False
        while True:
            attempt += 1
            try:
                async with AsyncExitStack() as slots:
                    if slot is None or attempt > 1:
                        slot = await self._open_slot(slots)
                    companion = await self._companion(slots) if self._suspicion.grading.suspected else None
                    verdict = await self._attributed(work, slot, companion)
            except InfrastructureError:
                more = ROUNDS_THAT_DECIDE if self._suspicion.grading.open else 0  # one grade alone convicts nobody
                if attempt >= limits.max_attempts + more:
                    raise
                await asyncio.sleep(backoff_s(limits, min(attempt, limits.max_attempts)))
            else:
                self._context.breaker.worked()
                if verdict is None or starved or not _starved(verdict):
                    return verdict
                starved = True

    async def _attributed(
        self, work: CapturedWork | str, slot: GradeSlot, companion: Companion | None
    ) -> Verdict | None:
        """One attempt to grade. A failure that is the patch's doing is a verdict; any other is raised."""
        attribution, since = self._context.attribution, self._context.attribution.memory.mark()
        start, finding, entered = None, None, False
        try:
            sandbox = await self._ready(slot)
            start = GradeStart(sandbox, since, await sandbox.limit_hits(), companion)
            entered = isinstance(work, str)  # a sandbox beside the slot's, where it is applied
            delta = await (self._apply(work, slot) if isinstance(work, str) else self._delta(work, slot))
            if isinstance(delta, Delta):
                if not self._wanted(self.patch):
                    return None
                with self._timer.phase("grade"):
                    await slot.judge_names(delta)  # a control uses nothing of the grade's budget
            entered = True
            verdict = await self._grade(delta, slot)
            self._own_limits = await start.hit_its_limits()
            return verdict
        except InfrastructureError as error:
            if isinstance(error, SandboxDead) and not entered:
                await attribution.lost_without_policy(self._record)
            elif start is not None:
                finding = await attribution.of_grading(self._record, start, self._suspicion, error)
                if finding.blame == "policy":
                    self._own_limits = await start.hit_its_limits()
                    self._failures.convicted("grading", error, finding)
                    return _convicted(self._record, finding.why)
            self._failures.note("grading", error, finding)
            if finding is not None and finding.works:
                self._context.breaker.worked()
            else:
                self._context.breaker.failed(error, self._record.task.id)
            raise
        finally:
            self.log = slot.kept_log

    async def _ready(self, slot: GradeSlot) -> Sandbox:
        """The slot's sandbox, once it has started, and if it lives; nothing of the patch is in it yet."""
        async with bounded("starting a grading sandbox", Deadline.after(start_s(self._context.config))):
            sandbox = await slot.sandbox()
        if not await sandbox.alive():
            raise SandboxDead(f"sandbox {sandbox.id} was lost while it waited")
        return sandbox

    async def _delta(self, work: CapturedWork, slot: GradeSlot) -> Delta:
        """What the work changes, against the slot's sandbox; sets `patch`."""
        limit = Deadline.after(self._context.config.scheduling.setup_limit_s)
        with self._timer.phase("patch"):
            async with bounded("comparing the work with what was given", limit):
                delta = await slot.delta(work)
        self.patch = delta.patch
        return delta

    async def _apply(self, patch: str, slot: GradeSlot) -> Delta | NotApplied:
        """What a foreign patch changes; sets `patch` to its text."""
        config = self._context.config
        limit = Deadline.after(2 * (start_s(config) + config.scheduling.setup_limit_s))
        self.patch = patch
        with self._timer.phase("apply"):
            async with bounded("applying the patch", limit):
                return await slot.apply(patch, limit)

    async def _grade(self, patch: Delta | NotApplied, slot: GradeSlot) -> Verdict:
        limit = Deadline.after(grade_attempt_s(self._context.config, self._record))
        with self._timer.phase("grade"):
            async with bounded("grading", limit.postponed(twins_s(self._context.config, self._record))):
                verdict = await slot.grade(patch, limit)
        self._context.starvation.add(verdict.eval_s, verdict.starved_s)
        return verdict

    async def _open_slot(self, slots: AsyncExitStack) -> GradeSlot:
        workspace = await asyncio.to_thread(self._context.components.workspace, self._record.task.id)
        return await slots.enter_async_context(self._context.slot(self._record, self._sample, workspace))

    async def _companion(self, slots: AsyncExitStack) -> Companion:
        return await slots.enter_async_context(self._context.attribution.trials.grading_companion(self._record))

    async def _why_broken(self, verdict: Verdict) -> str | None:
        """Why the task is broken, if that is what the verdict shows; raises the last `InfrastructureError` if no
        attempt found that out."""
        limits, attempt = self._context.config.scheduling, 0
        while True:
            attempt += 1
            try:
                with self._timer.phase("grade"):
                    return await self._context.broken.explains(self._record, verdict, own_limits=self._own_limits)
            except InfrastructureError as error:
                self._failures.note("grading", error)
                if attempt >= limits.max_attempts:
                    raise
            await asyncio.sleep(backoff_s(limits, attempt))


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
