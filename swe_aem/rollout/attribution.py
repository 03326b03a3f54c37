"""`Attribution`: whose failure a lost sandbox or a grade without a verdict was.

1. Direct evidence: the sandbox's own counters, then engine, host and neighbours. Where the sandbox's own limits were
   hit meanwhile, the others do not excuse it.
2. Otherwise it is measured, in rounds: the same calls, or the same patch, again beside a `Companion`. Ten in a row that
   fail beside companions that work are the policy's doing. One that works is an infrastructure failure, and is
   retried; a companion that fails too begins the count again.
3. So are ten attempts of an agent in a row that are lost beside companions, whatever replays of its calls showed.

If something takes each sandbox with probability q, whatever is in it, a grade fails beside a companion that works with
probability q(1 - q), and an agent's or a replay's sandbox goes before that of its companion with at most q - q^2/2. The
chance of a wrong verdict is q to begin with, times the tenth power of that, and a little more because a count may begin
again: per trajectory 1e-11 for q = 0.1, 7e-7 (grades) and 1e-4 (agents) for q = 0.5.
"""

from dataclasses import dataclass, field
from typing import Literal

from swe_aem.core import LimitHits, Sandbox, SandboxBackend, Stop, TaskRecord, Trajectory, TrajectoryKey
from swe_aem.core.base import Frozen
from swe_aem.errors import ControlFailed, HostFailed, InfrastructureError, SandboxDead, Starved
from swe_aem.rollout.breaker import describe
from swe_aem.rollout.companions import Companion
from swe_aem.rollout.controls import Control
from swe_aem.rollout.evidence import HostMemory, InnocentLosses, MemoryMark
from swe_aem.rollout.recording import RecordingSandbox
from swe_aem.rollout.trials import Trials

ROUNDS_THAT_DECIDE = 10
"""So many failures in a row, each beside a companion that works, are the policy's doing."""


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
    companion: Companion | None = None
    """What ran beside it, if something was lost before."""


@dataclass(frozen=True)
class GradeStart:
    """A grading sandbox before anything of a patch was in it."""

    sandbox: Sandbox
    memory: MemoryMark
    hits: LimitHits
    """What its limits had done by then."""
    companion: Companion | None = None
    """What runs beside it, if a grade of the patch failed before."""

    async def hit_its_limits(self) -> bool:
        """Did its own limits do something to it since?"""
        return await self.sandbox.limit_hits() != self.hits


@dataclass
class Rounds:
    """Failures of one trajectory without evidence of an infrastructure failure. The first has no companion: it says
    that the next needs one."""

    suspected: bool = False
    """Was there any?"""
    open: bool = False
    """Does the latest one call for another round, however many attempts there were?"""
    in_a_row: int = 0
    """The latest ones, each beside a companion that worked."""

    async def failed(self, companion: Companion | None) -> Control | None:
        """Count a failure; returns the companion's result."""
        self.suspected = self.open = True
        if companion is None:
            return None
        control = await companion.result()
        if control.sound:
            self.in_a_row += 1
        else:
            self.excused()
        return control

    def excused(self) -> None:
        """There is evidence that the infrastructure fails: begin again."""
        self.open, self.in_a_row = False, 0

    @property
    def decided(self) -> bool:
        """Are there enough?"""
        return self.in_a_row >= ROUNDS_THAT_DECIDE


@dataclass
class Suspicion:
    """What one trajectory lost so far without evidence of an infrastructure failure."""

    agent: Rounds = field(default_factory=Rounds)
    """Agents' sandboxes that a replay did not lose."""
    grading: Rounds = field(default_factory=Rounds)
    """Grades of its patch."""


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
            suspicion.agent.excused()
            return Finding(blame="infrastructure", why=excuse)
        control = await self.trials.sandbox_control(record)
        if not control.sound:
            suspicion.agent.excused()
            return self._unsound(control)
        replays = await self._replays(record, key, attempt)
        if replays.decided:
            convicted = f"the same calls kill a fresh sandbox too: {why}"
            return await self._confirmed(attempt.memory, convicted, own_limits=own_limits)
        control = await suspicion.agent.failed(attempt.companion)
        if control is not None and not control.sound:
            return self._unsound(control)
        if suspicion.agent.decided:
            convicted = f"{suspicion.agent.in_a_row} sandboxes in a row beside sound controls: {why}"
            return await self._confirmed(attempt.memory, convicted, own_limits=own_limits)
        return Finding(blame="infrastructure", why=why, works=True)

    async def _replays(self, record: TaskRecord, key: TrajectoryKey, attempt: Attempt) -> Rounds:
        """The calls of a lost sandbox made again, beside companions, until something speaks for the policy or there
        are enough."""
        assert attempt.sandbox is not None
        assert attempt.draft is not None
        complete, rounds = attempt.draft.stop is not Stop.SANDBOX_DEAD, Rounds()
        while not rounds.decided:
            async with self.trials.sandbox_companion(record) as companion:
                if not await self.trials.dies_again(record, key.sample, attempt.sandbox.recording, complete=complete):
                    break
                control = await rounds.failed(companion)
            if control is None or not control.sound:
                break
        return rounds

    async def of_grading(
        self,
        record: TaskRecord,
        start: GradeStart,
        suspicion: Suspicion,
        error: InfrastructureError,
    ) -> Finding:
        """Whose failure it was that a grade which began as `start` says broke off with `error`."""
        why, rounds = describe(error), suspicion.grading
        if isinstance(error, (Starved, ControlFailed, HostFailed)):
            return Finding(blame="infrastructure", why=why)
        own_limits = await start.hit_its_limits()
        if not own_limits and (excuse := await self._excuse(start.memory)):
            rounds.excused()
            return Finding(blame="infrastructure", why=excuse)
        control = await rounds.failed(start.companion)
        if control is None:
            return Finding(blame="infrastructure", why=why)
        if not control.sound:
            return self._unsound(control)
        if not rounds.decided:
            return Finding(blame="infrastructure", why=why, works=True)
        convicted = f"grading failed {rounds.in_a_row} times in a row beside sound controls: {why}"
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
