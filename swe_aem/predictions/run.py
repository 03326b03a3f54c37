"""`GradeRun`: grades predictions into one directory, a fresh sandbox each, exactly one verdict each.

    DIR/verdicts.jsonl     one line per prediction
    DIR/logs/              the log behind each verdict
    DIR/failures.jsonl     every attempt that failed, one line each
    DIR/phases.jsonl       when each phase of each attempt began and how long it took
    DIR/summary.json       the numbers
    DIR/config.json        settings, digests of tasks and patches: a directory belongs to one run
    DIR/broken_tasks.json  what controls showed of tasks whose tests were not found

Infrastructure failures are retried and attributed as in a rollout. What is left of them is no verdict: a rerun tries
those predictions again.
"""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, nullcontext
from pathlib import Path

from swe_aem.core import SandboxBackend
from swe_aem.core.base import Frozen
from swe_aem.core.outcomes import graded, needs_grading
from swe_aem.core.unless import unless_set
from swe_aem.fleet import Engine, engine_at
from swe_aem.predictions.grading import Graded, Grading, LocalGrading, OpenGrader, RemoteGrading, draft
from swe_aem.predictions.progress import GradeProgress, grade_facts
from swe_aem.predictions.reading import Prediction, Predictions
from swe_aem.predictions.summary import GradeSummary, earlier_wall_s, summarise, write_grade_summary
from swe_aem.rollout import RolloutConfig, claim, grading_extensions
from swe_aem.rollout.breaker import FirstAnswer
from swe_aem.rollout.display import show
from swe_aem.rollout.manifest import NO_TOKENIZER
from swe_aem.rollout.orchestrator import raise_first
from swe_aem.rollout.patch_grading import grading_breaker
from swe_aem.rollout.progress import stored_text
from swe_aem.rollout.roller import Place, RunState
from swe_aem.rollout.run import two_step_stop
from swe_aem.rollout.verdict_rewards import verdict_rewards
from swe_aem.runlog import note, run_log
from swe_aem.sandbox import open_backend
from swe_aem.store import FailureLog, GradedWriter, PhaseLog, count_trajectory, graded_prediction, graded_writer
from swe_aem.tasks import TaskSet

PREDICTIONS = "predictions"
"""Stands for the policy in the settings of a run that grades predictions."""
_SUMMARY_EVERY_S = 10.0


class GradeResult(Frozen):
    """How a run ended."""

    summary: GradeSummary
    interrupted: bool
    """Ended by `stop`, `cancel` or a signal before every prediction was graded."""


class GradeRun:
    """Grades what the directory lacks of some predictions. Use once."""

    def __init__(
        self,
        config: RolloutConfig,
        tasks: TaskSet,
        predictions: Predictions,
        directory: Path,
        *,
        backend: SandboxBackend | None = None,
        grader: OpenGrader | None = None,
        engine: Engine | None = None,
        line_every_s: float = 30.0,
    ) -> None:
        """`predictions` are for tasks of the set. Of `config` the limits, the sandboxes and `scheduling.grading`, the
        number of patches graded at once, matter. Without a terminal a line is printed every `line_every_s` seconds.
        With a `cluster` in the configuration its hosts grade, reached through `engine` if one is given."""
        self._engine = engine or (engine_at(config.cluster.address) if config.cluster is not None else None)
        scheduling = config.scheduling
        if self._engine is None:
            workers = config.at_once.grading
            scheduling = scheduling.model_copy(update={"concurrency": workers, "grading": workers})
        update = {"agent": "native", "policy": PREDICTIONS, "scheduling": scheduling}
        self._config = config.model_copy(update=update)
        self._rewards = verdict_rewards(config.reward, tasks.records)
        self._records = {record.task.id: record for record in tasks}
        self._extensions = grading_extensions(config, tasks)
        self._predictions = predictions.found
        self._notes = predictions.notes
        self._directory = directory
        self._backend = backend
        self._tasks = tasks
        self._grader = grader
        self._line_every_s = line_every_s
        self._running: asyncio.Task[None] | None = None
        self._drain: asyncio.TimerHandle | None = None
        self._interrupted = self._cancelled = False
        self._stopping = asyncio.Event()

    async def run(self, *, signals: bool = False) -> GradeResult:
        """Grade every prediction that has no verdict yet.

        `signals`: the first Ctrl-C or SIGTERM calls `stop` and the second one `cancel`. Raises `UserError` for bad
        input or a directory of other inputs, `RunAborted` if nothing works any more; `summary.json` is up to date then.
        """
        with run_log(self._directory), ExitStack() as stack:
            if self._engine is None and self._backend is None:
                open_backend(self._config.sandbox)  # raises if it cannot work here, before anything is written
            writer = stack.enter_context(graded_writer(self._directory))
            run = self._claim(writer)
            failures = FailureLog(self._directory)
            stack.callback(failures.close)
            phases = PhaseLog(self._directory)
            stack.callback(phases.close)
            progress = GradeProgress(len(self._predictions), earlier_wall_s(self._directory), failures, phases)
            if again := writer.forget_failures():
                progress.news.append(f"{len(again)} predictions without a verdict are tried again")
            for row in writer.rows.values():
                progress.add(row.trajectory())
            progress.at_start = progress.totals.trajectories
            if progress.at_start:
                progress.news.append(f"{progress.at_start} of {len(self._predictions)} have a verdict already")
            stopping = two_step_stop(self.stop, self.cancel, progress.news.append) if signals else nullcontext()
            try:
                with stopping:
                    async with self._grading(run) as grading:
                        await self._report_while(grading, writer, progress)
            finally:
                summary = self._summary(writer, progress)
                write_grade_summary(self._directory, summary)
            return GradeResult(summary=summary, interrupted=self._interrupted)

    def stop(self) -> None:
        """Start nothing more and let what runs finish, but no longer than the drain limit."""
        if not self._interrupted:
            self._interrupted = True
            self._stopping.set()
            limit_s = self._config.scheduling.drain_limit_s
            self._drain = asyncio.get_running_loop().call_later(limit_s, self.cancel)

    def cancel(self) -> None:
        """Cancel everything that runs; sandboxes are closed before `run` returns. A second call changes nothing."""
        self._interrupted = True
        self._stopping.set()
        if self._running is not None and not self._cancelled:
            self._cancelled = True
            self._running.cancel()

    def _claim(self, writer: GradedWriter) -> str:
        """Claim the directory; returns the id of its run."""
        digests: dict[str, dict[int, str]] = {}
        for one in self._predictions:
            digests.setdefault(one.task_id, {})[one.sample] = one.digest
        manifest = claim(
            self._directory,
            self._config,
            [self._records[id] for id in digests],
            stored_tasks={key.task_id for key in writer.rows},
            tokenizer=NO_TOKENIZER,
            extensions=self._extensions,
            predictions=digests,
        )
        return manifest.run

    async def _report_while(self, grading: Grading, writer: GradedWriter, progress: GradeProgress) -> None:
        """Grade with the display and the summary file kept up to date beside it."""
        self._running = asyncio.create_task(self._grade_all(grading, writer, progress))
        if self._cancelled:
            self._running.cancel()
        reporters = [
            asyncio.create_task(show(progress, every_s=self._line_every_s, title="grade", facts=grade_facts)),
            asyncio.create_task(self._keep_summary(writer, progress)),
        ]
        try:
            await asyncio.wait({self._running})
        except asyncio.CancelledError:
            self.cancel()
            await asyncio.wait({self._running})
            raise
        finally:
            if self._drain is not None:
                self._drain.cancel()
            for reporter in reporters:
                reporter.cancel()
            await asyncio.wait(reporters)
        for reporter in reporters:
            if not reporter.cancelled():
                reporter.result()
        if not (self._running.cancelled() and self._interrupted):
            self._running.result()

    async def _keep_summary(self, writer: GradedWriter, progress: GradeProgress) -> None:
        while True:
            await asyncio.sleep(_SUMMARY_EVERY_S)
            write_grade_summary(self._directory, self._summary(writer, progress))

    def _summary(self, writer: GradedWriter, progress: GradeProgress) -> GradeSummary:
        rows = list(writer.rows.values())
        return summarise(
            rows,
            wanted=len(self._predictions),
            notes=self._notes,
            wall_s=progress.wall_s,
            failed_attempts=progress.failed_attempts,
        )

    @asynccontextmanager
    async def _grading(self, run: str) -> AsyncIterator[Grading]:
        """What grades: on this host, unless the configuration names a cluster."""
        if self._engine is not None:
            yield RemoteGrading(self._config, self._tasks, self._directory, self._engine, run=run)
            return
        lent = open_backend(self._config.sandbox) if self._backend is None else nullcontext(self._backend)
        async with lent as backend:
            yield LocalGrading(self._config, self._tasks, backend, self._directory, run=run, grader=self._grader)

    async def _grade_all(self, grading: Grading, writer: GradedWriter, progress: GradeProgress) -> None:
        disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="verdicts")
        breaker = grading_breaker(self._config, len({one.task_id for one in self._predictions}))
        run = RunState(
            watcher=progress,
            agent_breaker=breaker,
            grading_breaker=breaker,
            first_answer=FirstAnswer(known=True),
            spending=progress.spending,
            nothing_works=lambda: self.cancel() if self._interrupted else None,
        )
        try:
            async with grading.open(run):
                try:
                    async with asyncio.TaskGroup() as tasks:
                        await self._dispatch(tasks, grading, writer, progress, disk)
                except BaseExceptionGroup as group:
                    raise_first(group)
        finally:
            disk.shutdown()  # a verdict that is being written gets written

    async def _dispatch(
        self,
        tasks: asyncio.TaskGroup,
        grading: Grading,
        writer: GradedWriter,
        progress: GradeProgress,
        disk: ThreadPoolExecutor,
    ) -> None:
        """Start grading each prediction that has no verdict as soon as there is a place for it."""
        for prediction in self._predictions:
            if prediction.key in writer.rows:
                continue
            if not needs_grading(ungraded := draft(prediction)):
                await self._keep(Graded(graded(ungraded, None)), writer, progress, disk)
                continue
            record = self._records[prediction.task_id]
            place = await unless_set(self._stopping, grading.place(record))
            if place is None or self._interrupted:
                if place is not None:
                    place.release()
                return
            tasks.create_task(self._one(prediction, place, grading, writer, progress, disk))

    async def _one(
        self,
        prediction: Prediction,
        place: Place,
        grading: Grading,
        writer: GradedWriter,
        progress: GradeProgress,
        disk: ThreadPoolExecutor,
    ) -> None:
        try:
            end = await grading.grade(prediction, self._records[prediction.task_id], place)
            await self._keep(end, writer, progress, disk)
        finally:
            progress.left(str(prediction.key))

    async def _keep(self, end: Graded, writer: GradedWriter, progress: GradeProgress, disk: ThreadPoolExecutor) -> None:
        done = self._rewards(end.trajectory)
        row = graded_prediction(done, end.wall_s)
        await asyncio.get_running_loop().run_in_executor(disk, writer.append, row, end.log)
        progress.add(done)
        note(stored_text(count_trajectory(done)), about=str(done.key))
