"""`LocalRoller`: a `Roller` whose sandboxes are on this host and whose agents run in this process."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from swe_aem.core import Deadline, SandboxBackend, TaskRecord, TrajectoryKey, bounded
from swe_aem.core.outcomes import in_baseline
from swe_aem.core.scratch import sweep_scratch
from swe_aem.errors import ExtensionFailed, InfrastructureError
from swe_aem.reward import Rewards
from swe_aem.rollout.breaker import describe
from swe_aem.rollout.components import RolloutComponents
from swe_aem.rollout.config import RolloutConfig
from swe_aem.rollout.controls import Controls
from swe_aem.rollout.gate import StartGate
from swe_aem.rollout.patch_grading import grading_context
from swe_aem.rollout.places import AgentPlace, Places
from swe_aem.rollout.roller import Done, Place, RewardFailed, RunState, StartingGroup
from swe_aem.rollout.trajectory_run import RunContext, TrajectoryRun
from swe_aem.store import seal_trajectory

_PRUNE_LIMIT_S = 60.0


class LocalRoller:
    """Rolls out trajectories with the given components in sandboxes of the given backend.

    Three limits: agents that live, sandboxes that start, evaluation scripts that run. A trajectory frees its agent's
    place only once it holds a grading slot, so at most 2 x concurrency + grading sandboxes exist, those of controls and
    replays not counted. A control's evaluation runs while whoever asked for it holds a grading slot and waits.
    """

    def __init__(
        self,
        config: RolloutConfig,
        components: RolloutComponents,
        backend: SandboxBackend,
        directory: Path,
        *,
        run: str,
        rewards: Rewards | None = None,
        places: Places | None = None,
    ) -> None:
        """`directory` keeps what is found out about broken tasks; `run` is the run's id, for labels. `rewards` default
        to those of the configuration. `places` are shared with other runs."""
        self._config = config
        self._components = components
        self._backend = backend
        self._directory = directory
        self._run_id = run
        self._rewards = rewards or Rewards(config.reward)
        self._places = places or Places(config.at_once)
        limit_s = config.scheduling.start_limit_s
        self._gate = StartGate(backend, starting=self._places.starting, start_limit_s=limit_s)
        self._worked_s = -math.inf
        """When a trajectory that says something of the policy last came to its end, on the monotonic clock."""
        self._opened: tuple[RunState, RunContext] | None = None

    @asynccontextmanager
    async def open(self, run: RunState) -> AsyncIterator[None]:
        """A grader and controls; what dead runs left is removed before and after."""
        tell = run.watcher.tell
        await prune_left_over(self._backend, tell)
        try:
            async with self._components.grader(self._gate) as grader, Controls() as controls:
                grading = grading_context(
                    self._config,
                    self._run_id,
                    self._components,
                    self._backend,
                    self._gate,
                    grader,
                    controls,
                    self._directory,
                    tell,
                    breaker=run.grading_breaker,
                )
                context = RunContext(
                    config=self._config,
                    run=self._run_id,
                    components=self._components,
                    gate=self._gate,
                    grading=grading,
                    grading_slots=self._places.grading,
                    state=run,
                    worked_s=lambda: self._worked_s,
                )
                self._opened = run, context
                yield
        finally:
            self._opened = None
            await prune_left_over(self._backend, tell)

    async def admit(self, record: TaskRecord, count: int) -> None:
        """Groups are started one after the other."""

    async def place(self, record: TaskRecord, group: StartingGroup | None = None) -> AgentPlace:
        """Wait for a place; any will do."""
        return await AgentPlace.of(self._places.agents)

    async def roll(
        self,
        record: TaskRecord,
        sample: int,
        place: Place,
        *,
        earlier: Sequence[str] = (),
        left_s: float | None = None,
    ) -> Done:
        """Roll out one trajectory, as `Roller.roll` says. `earlier` are attempts that failed before, elsewhere: each is
        one less of `max_attempts`. `left_s` is what is left of the trajectory's time, if not all."""
        if self._opened is None:
            raise RuntimeError("a roller rolls out only inside `async with roller.open(...)`")
        run, context = self._opened
        key = TrajectoryKey(record.task.id, sample)
        running = TrajectoryRun(context, record, key, place.release, earlier=tuple(earlier), left_s=left_s)
        trajectory = await running.run()
        if in_baseline(trajectory):
            self._worked_s = time.monotonic()
        run.terminal(key)
        try:
            paid = await self._rewards.give(trajectory)
        except ExtensionFailed as error:
            line = await asyncio.to_thread(seal_trajectory, trajectory)
            raise RewardFailed(str(error), line, running.log) from error.__cause__
        return await asyncio.to_thread(Done.of, paid, running.log, settled=running.settled)


async def prune_left_over(backend: SandboxBackend, tell: Callable[[str], None]) -> None:
    """Remove what dead runs left. A failure is only told of: nothing depends on it."""
    try:
        async with bounded("pruning sandboxes", Deadline.after(_PRUNE_LIMIT_S)):
            await asyncio.to_thread(sweep_scratch)
            await backend.prune()
    except InfrastructureError as error:
        tell(f"pruning sandboxes failed: {describe(error)}; run `swe-aem sandbox prune`")
