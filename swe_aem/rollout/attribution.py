"""`Attribution`: whose failure a lost sandbox or a grade without a verdict was.

1. Direct evidence: the sandbox's own counters, then engine, host and neighbours. Where the sandbox's own limits were
   hit meanwhile, the others do not excuse it.
2. Otherwise it is measured: the same calls, or the same patch, again beside a control. What dies again beside a sound
   control is the policy's doing; what survives is an infrastructure failure, and is retried.
3. A third loss of fresh samples beside sound controls is the policy's doing, whatever the replays said.
"""

from dataclasses import dataclass, field
from typing import Literal

from swe_aem.core import LimitHits, Sandbox, SandboxBackend, Stop, TaskRecord, Trajectory, TrajectoryKey
from swe_aem.core.base import Frozen
from swe_aem.errors import ControlFailed, HostFailed, InfrastructureError, SandboxDead, Starved
from swe_aem.rollout.breaker import describe
from swe_aem.rollout.controls import Control
from swe_aem.rollout.evidence import HostMemory, InnocentLosses, MemoryMark
from swe_aem.rollout.recording import RecordingSandbox
from swe_aem.rollout.trials import Trials

LOSSES_THAT_DECIDE = 3
"""So many losses of fresh samples beside sound controls are the policy's doing."""
_REPLAYS = 2
"""So often an agent's calls must kill a fresh sandbox: one that died may have been killed from outside."""
GRADES_THAT_DECIDE = 2
"""So many grades of the same patch must fail before a control decides."""


class Finding(Frozen):
    """Whose failure something was, and why."""

    blame: Literal["policy", "infrastructure"]
    why: str
    works: bool = False
    """Was it measured that the infrastructure works now?"""


@dataclass
class Attempt:
    """One attempt of an agent, as far as it came."""

    memory: MemoryMark
    sandbox: RecordingSandbox | None = None
    """The agent's sandbox, once it is prepared."""
    draft: Trajectory | None = None
    """What the agent handed over."""


@dataclass(frozen=True)
class GradeStart:
    """A grading sandbox before anything of a patch was in it."""

    sandbox: Sandbox
    memory: MemoryMark
    hits: LimitHits
    """What its limits had done by then."""

    async def hit_its_limits(self) -> bool:
        """Did its own limits do something to it since?"""
        return await self.sandbox.limit_hits() != self.hits


@dataclass
class Suspicion:
    """What one trajectory lost so far without evidence of an infrastructure failure."""

    losses: int = 0
    """Agents' sandboxes."""
    dead_graders: int = 0
    """Grading sandboxes with its patch in them."""
    failed_grades: int = 0
    """Grades of its patch that failed otherwise."""

    @property
    def undecided(self) -> bool:
        """Did grades fail, but too few to decide?"""
        return 0 < self.dead_graders < LOSSES_THAT_DECIDE or 0 < self.failed_grades < GRADES_THAT_DECIDE


@dataclass
class Attribution:
    """Finds out whose failure something was, for all trajectories of a run."""

    backend: SandboxBackend
    trials: Trials
    memory: HostMemory = field(default_factory=HostMemory)
    innocent: InnocentLosses = field(default_factory=InnocentLosses)

    def begin(self) -> Attempt:
        """An attempt of an agent begins."""
        return Attempt(self.memory.mark())

    async def of_agent(
        self, record: TaskRecord, key: TrajectoryKey, attempt: Attempt, suspicion: Suspicion, error: InfrastructureError
    ) -> Finding:
        """Whose failure it was that an attempt of an agent broke off with `error`."""
        why = describe(error)
        if attempt.draft is None or attempt.sandbox is None:  # nothing of the policy can have caused it
            if isinstance(error, SandboxDead) and (attempt.sandbox is None or not attempt.sandbox.recording.calls):
                await self.lost_without_policy(record)
            return Finding(blame="infrastructure", why=why)
        if isinstance(error, HostFailed):
            return Finding(blame="infrastructure", why=why)
        own_limits = await attempt.sandbox.hit_its_limits()
        if not own_limits and (excuse := await self._excuse(attempt.memory)):
            return Finding(blame="infrastructure", why=excuse)
        control = await self.trials.sandbox_control(record)
        if not control.sound:
            return self._unsound(control)
        complete, recording = attempt.draft.stop is not Stop.SANDBOX_DEAD, attempt.sandbox.recording
        for _ in range(_REPLAYS):
            if not await self.trials.dies_again(record, key.sample, recording, complete=complete):
                break
        else:
            convicted = f"the same calls kill a fresh sandbox too: {why}"
            return await self._confirmed(attempt.memory, convicted, own_limits=own_limits)
        suspicion.losses += 1
        if suspicion.losses >= LOSSES_THAT_DECIDE:
            convicted = f"{suspicion.losses} sandboxes in a row: {why}"
            return await self._confirmed(attempt.memory, convicted, own_limits=own_limits)
        return Finding(blame="infrastructure", why=why, works=True)

    async def of_grading(
        self,
        record: TaskRecord,
        start: GradeStart,
        suspicion: Suspicion,
        error: InfrastructureError,
    ) -> Finding:
        """Whose failure it was that a grade which began as `start` says broke off with `error`.

        A grade whose sandbox died must do so three times: it may have been killed from outside.
        """
        why = describe(error)
        if isinstance(error, (Starved, ControlFailed, HostFailed)):
            return Finding(blame="infrastructure", why=why)
        own_limits = await start.hit_its_limits()
        if not own_limits and (excuse := await self._excuse(start.memory)):
            return Finding(blame="infrastructure", why=excuse)
        dead = isinstance(error, SandboxDead)
        suspicion.dead_graders += dead
        suspicion.failed_grades += not dead
        enough = suspicion.dead_graders >= LOSSES_THAT_DECIDE or suspicion.failed_grades >= GRADES_THAT_DECIDE
        if not enough:
            return Finding(blame="infrastructure", why=why)
        control = await self.trials.grading_control(record)
        if not control.sound:
            return self._unsound(control)
        failed = suspicion.dead_graders + suspicion.failed_grades
        convicted = f"grading failed {failed} times beside a sound control: {why}"
        return await self._confirmed(start.memory, convicted, own_limits=own_limits)

    async def lost_without_policy(self, record: TaskRecord) -> None:
        """A sandbox of the task was lost just now in which no policy had run anything. Beside a sound control of its
        image that is evidence for others; an image whose sandboxes always die is none."""
        when_s = self.innocent.clock()
        if (await self.trials.sandbox_control(record)).sound:
            self.innocent.note(when_s)

    async def works(self, record: TaskRecord, *, grading: bool) -> bool:
        """Does the infrastructure work now, so that a failure that no retry cured may be stored? An earlier control
        does not say."""
        ask = self.trials.grading_control if grading else self.trials.sandbox_control
        return (await ask(record, kept_s=0.0)).sound

    async def _excuse(self, since: MemoryMark) -> str | None:
        """Direct evidence of an infrastructure failure since the mark; None if there is none."""
        if not await self.backend.answers():
            return "the engine does not answer"
        return self.memory.trouble(since) or self.innocent.near()

    async def _confirmed(self, since: MemoryMark, why: str, *, own_limits: bool) -> Finding:
        """The policy's doing, unless there is an excuse by now."""
        excuse = None if own_limits else await self._excuse(since)
        return Finding(blame="infrastructure", why=excuse) if excuse else Finding(blame="policy", why=why)

    def _unsound(self, control: Control) -> Finding:
        return Finding(blame="infrastructure", why=f"a control failed too: {control.why}")
