"""`Grading`: brings patches to their verdicts, wherever its sandboxes are.

`LocalGrading` has them on this host, `RemoteGrading` on the hosts of a cluster, where agents open a `LocalGrading`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from swe_aem.core import Outcome, SandboxBackend, TaskRecord, Trajectory
from swe_aem.core.outcomes import graded
from swe_aem.errors import InfrastructureError
from swe_aem.fleet import Engine
from swe_aem.fleet.host_work import HostWork, OpenHostBackend, host_backend, open_host
from swe_aem.fleet.messages import HostSize, Job, Opening
from swe_aem.fleet.outbox import Outbox
from swe_aem.fleet.remote_work import AllLost, Piece, RemoteWork
from swe_aem.grading import Grader
from swe_aem.predictions.reading import Prediction
from swe_aem.rollout import RolloutConfig
from swe_aem.rollout.breaker import describe
from swe_aem.rollout.causes import counted
from swe_aem.rollout.components import grading_components
from swe_aem.rollout.controls import Controls
from swe_aem.rollout.failures import Failures
from swe_aem.rollout.gate import PhaseTimer, StartGate
from swe_aem.rollout.local_roller import prune_left_over
from swe_aem.rollout.patch_grading import GradingContext, PatchGrading, grading_context
from swe_aem.rollout.places import AgentPlace
from swe_aem.rollout.roller import Place, RunState
from swe_aem.tasks import TaskSet

OpenGrader = Callable[[SandboxBackend], AbstractAsyncContextManager[Grader]]


@dataclass(frozen=True)
class Graded:
    """How a prediction ended."""

    trajectory: Trajectory
    """Terminal, but without its reward."""
    wall_s: float = 0.0
    """Seconds that it took, all attempts together."""
    log: bytes = b""
    """The kept log."""


class Grading(Protocol):
    """Grades predictions, as many at once as it has places."""

    def open(self, run: RunState) -> AbstractAsyncContextManager[None]:
        """What grading needs, open for the length of the block; nothing is left when it ends. Once."""
        ...

    async def place(self, record: TaskRecord) -> Place:
        """Wait for a place for a patch of the task."""
        ...

    async def grade(self, prediction: Prediction, record: TaskRecord, place: Place) -> Graded:
        """Bring a prediction to its end, with retries; releases the place. A cancelled call closes its sandboxes.

        Raises `UserError`, `RunAborted` and bugs, which end the run.
        """
        ...


class LocalGrading:
    """Grades in sandboxes of a backend on this host."""

    def __init__(
        self,
        config: RolloutConfig,
        tasks: TaskSet,
        backend: SandboxBackend,
        directory: Path,
        *,
        run: str,
        grader: OpenGrader | None = None,
    ) -> None:
        """`directory` keeps what is found out about broken tasks; `run` is the run's id, for labels."""
        self._config, self._backend, self._directory, self._run_id = config, backend, directory, run
        self._components = grading_components(tasks, grader or (lambda gate: Grader(gate, twins=config.twins)))
        self._places = asyncio.Semaphore(config.at_once.grading)
        self._opened: tuple[RunState, GradingContext] | None = None

    @asynccontextmanager
    async def open(self, run: RunState) -> AsyncIterator[None]:
        """A grader and controls; what dead runs left is removed before and after."""
        config, tell = self._config, run.watcher.tell
        limit_s = config.scheduling.start_limit_s
        gate = StartGate(self._backend, starting=config.at_once.starting, start_limit_s=limit_s)
        await prune_left_over(self._backend, tell)
        try:
            async with self._components.grader(gate) as grader, Controls() as controls:
                context = grading_context(
                    config,
                    self._run_id,
                    self._components,
                    self._backend,
                    gate,
                    grader,
                    controls,
                    self._directory,
                    tell,
                    breaker=run.grading_breaker,
                )
                self._opened = run, context
                yield
        finally:
            self._opened = None
            await prune_left_over(self._backend, tell)

    async def place(self, record: TaskRecord) -> AgentPlace:
        """Wait for a place; any will do."""
        return await AgentPlace.of(self._places)

    async def grade(
        self, prediction: Prediction, record: TaskRecord, place: Place, *, earlier: Sequence[str] = ()
    ) -> Graded:
        """Bring a prediction to its end here. `earlier` are attempts that failed elsewhere: each is one less of
        `max_attempts`."""
        if self._opened is None:
            raise RuntimeError("predictions are graded only inside `async with grading.open(...)`")
        run, context = self._opened
        try:
            return await _graded(prediction, record, _with_less(context, len(earlier)), run, list(earlier))
        finally:
            place.release()


class RemoteGrading:
    """Grades on agents, as `RemoteWork` has work done."""

    def __init__(self, config: RolloutConfig, tasks: TaskSet, directory: Path, engine: Engine, *, run: str) -> None:
        """`directory` keeps what is known of broken tasks; `run` is the run's id."""
        self._work = RemoteWork(open_host_grading, config, tasks, directory, engine, run=run, part="grading")

    def open(self, run: RunState) -> AbstractAsyncContextManager[None]:
        """Agents on the hosts of the cluster; once."""
        return self._work.open(run)

    async def place(self, record: TaskRecord) -> Place:
        """Wait for a place on some host; see `Fleet.place`."""
        return await self._work.place(record)

    async def grade(self, prediction: Prediction, record: TaskRecord, place: Place) -> Graded:
        """Bring a prediction to its end, on as many hosts as it takes."""
        piece = Piece(record, prediction.sample, prediction, failed=_has_no_verdict)
        try:
            return await self._work.do(piece, place)
        except AllLost as error:
            lost = error.failures
            update = {"outcome": Outcome.GRADER_FAILURE, "error": counted(lost), "attempt": len(lost)}
            return Graded(draft(prediction).model_copy(update=update))


@asynccontextmanager
async def open_host_grading(
    opening: Opening, outbox: Outbox, *, grader: OpenGrader | None = None, backend: OpenHostBackend = host_backend
) -> AsyncIterator[HostWork]:
    """Grading as work on a host; each job's payload is its prediction, and it ends in a `Graded`."""
    config = opening.config
    async with open_host(opening, outbox, HostSize.for_scripts(config), backend=backend) as host:
        grading = LocalGrading(config, host.tasks, host.backend, host.directory, run=opening.run, grader=grader)

        async def grade(job: Job, place: Place) -> Graded:
            host.tasks.take(job.record)
            return await grading.grade(job.payload, job.record, place, earlier=job.earlier)

        async with grading.open(outbox.run_state()):
            yield HostWork(host.size, grade, host.broken_tasks)


def draft(prediction: Prediction) -> Trajectory:
    """A prediction as a trajectory that has not been graded."""
    return Trajectory(
        task_id=prediction.task_id,
        sample=prediction.sample,
        agent="",
        model=prediction.model,
        stop=prediction.stop,
        patch=prediction.patch,
    )


async def _graded(
    prediction: Prediction, record: TaskRecord, context: GradingContext, run: RunState, earlier: list[str]
) -> Graded:
    name, watcher = str(prediction.key), run.watcher
    failures = Failures(prediction.key, watcher.failed, said=earlier, phase="grade")

    def enter(phase: str) -> None:
        failures.phase = phase
        watcher.phase(name, phase)

    def left(phase: str, began_s: float, seconds: float) -> None:
        watcher.phase_ended(prediction.key, len(failures.said) + 1, phase, began_s, seconds)

    timer = PhaseTimer(enter, left)
    grading = PatchGrading(context, record, prediction.sample, timer, failures)
    try:
        with failures.surfacing():
            end = await grading.run(prediction.patch)
    except InfrastructureError as error:
        why = counted(failures.said) or describe(error)
        done = draft(prediction).model_copy(update={"outcome": Outcome.GRADER_FAILURE, "error": why})
    else:
        if end.broken is not None:
            done = draft(prediction).model_copy(update={"outcome": Outcome.BROKEN_TASK, "error": end.broken})
        else:
            done = graded(draft(prediction), end.verdict)
    done = done.model_copy(update={"attempt": len(failures.said)})
    return Graded(done, timer.result()["total"], grading.log)


def _with_less(context: GradingContext, attempts: int) -> GradingContext:
    """The context, with so many attempts less."""
    if not attempts:
        return context
    scheduling = context.config.scheduling
    left = scheduling.model_copy(update={"max_attempts": max(1, scheduling.max_attempts - attempts)})
    return replace(context, config=context.config.model_copy(update={"scheduling": left}))


def _has_no_verdict(end: Graded) -> bool:
    """Did nothing but the infrastructure of its host fail, and may another one do better?"""
    return end.trajectory.outcome is Outcome.GRADER_FAILURE
