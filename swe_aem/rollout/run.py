"""`RolloutRun`: rolls out tasks into one store, from its lock to its summary.

    with RolloutRun(config, tasks, Store("runs/x")) as rollout:
        result = asyncio.run(rollout.run())

The command line, `swe_aem.rollout()`, training and the benchmarks all roll out through it.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from swe_aem.core import SandboxBackend, TaskRecord, Trajectory
from swe_aem.core.base import Frozen
from swe_aem.errors import UserError
from swe_aem.policy import check_policy
from swe_aem.reward import Rewards
from swe_aem.rollout.components import RolloutComponents, open_components, require_fitting_model
from swe_aem.rollout.config import RolloutConfig
from swe_aem.rollout.display import show
from swe_aem.rollout.group import RolloutGroup, block_size, group_of
from swe_aem.rollout.group_source import GroupSource
from swe_aem.rollout.local_roller import LocalRoller
from swe_aem.rollout.manifest import claim
from swe_aem.rollout.orchestrator import Orchestrator
from swe_aem.rollout.places import Places
from swe_aem.rollout.progress import RunProgress, causes_before, used_before
from swe_aem.rollout.roller import Roller
from swe_aem.rollout.spending import Ended, Spending, Used
from swe_aem.rollout.store_tokenizer import run_tokenizer
from swe_aem.rollout.supply import TaskSupply
from swe_aem.rollout.unrewarded import pay_unrewarded, unrewarded_tasks
from swe_aem.rollout.used import used_extensions
from swe_aem.rollout.verdict_rewards import require_numbers
from swe_aem.runlog import run_log, tell
from swe_aem.sandbox import open_backend, open_files
from swe_aem.store import FailureLog, PhaseLog, Store, StoreWriter, Summary, Totals, read_summary, write_summary
from swe_aem.tasks import TaskSet

OpenComponents = Callable[[RolloutConfig, TaskSet], AbstractAsyncContextManager[RolloutComponents]]
"""Opens what does the work of a rollout, for the length of an `async with`."""
MakeRoller = Callable[[RolloutConfig, TaskSet, Path, str], Roller]
"""Makes what rolls out on other hosts, of the configuration, its tasks, the directory of the store and the run's id."""

_SUMMARY_EVERY_S = 10.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class RolloutResult(Frozen):
    """How a rollout ended, and the way to its trajectories."""

    directory: Path
    """The store."""
    summary: Summary
    """The numbers of the whole store."""
    interrupted: bool
    """Ended by `stop`, `cancel` or a signal before all trajectories were in the store."""
    budget_spent: bool = False
    """Ended before that because what is left of the budget is not enough for another trajectory."""

    @property
    def failure_rate(self) -> float:
        """Share of trajectories that ended in an infrastructure failure, 0..1."""
        return self.summary.infrastructure_failures / max(1, self.summary.trajectories)

    def trajectories(self) -> Iterator[Trajectory]:
        """Every trajectory of the store, in the order of writing, each read when it is its turn.

        Raises `UserError` for a damaged record.
        """
        return Store(self.directory).trajectories()


@dataclass
class _OpenStore:
    """The part of a run that exists while its store is locked."""

    lifetime: ExitStack
    writer: StoreWriter
    rewards: Rewards
    run_id: str
    totals: Totals
    earlier: Summary | None
    """The summary of everything done on the store so far."""
    failures: FailureLog
    phases: PhaseLog
    untold: list[str]
    """Messages for the display of the next `run`."""


class RolloutRun:
    """Rolls out tasks into one store, which is locked while the context is open.

    Trajectories that the store has are not rolled out again, so a rerun resumes where an earlier process ended. `stop`
    and `cancel` belong to the thread of the event loop that `run` runs in.
    """

    def __init__(
        self,
        config: RolloutConfig,
        tasks: TaskSet,
        store: Store,
        *,
        backend: SandboxBackend | None = None,
        open_components: OpenComponents = open_components,
        places: Places | None = None,
        elsewhere: MakeRoller | None = None,
        line_every_s: float = 30.0,
        brief: bool = False,
    ) -> None:
        """`backend` and `open_components` default to what the configuration names. A given backend has been entered,
        and stays so; another one is entered for the length of each `run`. `places` are shared with other runs.
        `elsewhere` is for a configuration with a `cluster`, and uses none of the three.

        Without a terminal a line of progress is printed every `line_every_s` seconds; a `brief` run prints such lines
        on a terminal too, and nothing about single groups.
        """
        self._config = config
        self._tasks = tasks
        self._store = store
        self._backend = backend
        self._open_components = open_components
        self._places = places
        self._elsewhere = elsewhere
        self._line_every_s = line_every_s
        self._brief = brief
        self._opened: _OpenStore | None = None
        self._orchestrator: Orchestrator | None = None
        self._interrupted = False

    def __enter__(self) -> "RolloutRun":
        """Lock and recover the store, and claim it for the configuration.

        Raises `UserError` if the sandboxes' backend, the tokenizer or the reward cannot be used, or this process may
        not open enough files, before anything is written; and if another process writes the store, it belongs to
        another run, or it cannot be read. Trajectories that an earlier process could not pay are paid now; raises
        `ExtensionFailed` if that fails again.
        """
        if self._config.cluster is not None and self._elsewhere is None:
            raise UserError("cluster is not for this command: leave it out, to roll out on this host")
        here, at_once = self._elsewhere is None, self._config.at_once
        if self._backend is None and here:
            open_backend(self._config.sandbox)  # raises if it cannot work here
        if here:
            open_files.require(at_once.concurrency)
        tokenizer = _fingerprint(self._config)
        extensions = used_extensions(self._config, self._tasks)
        rewards = Rewards(self._config.reward)
        require_numbers(self._config.reward, self._tasks.records)
        with ExitStack() as lifetime:
            writer = lifetime.enter_context(self._store.writer())
            stored_tasks = {task_id for task_id, _ in writer.rows} | unrewarded_tasks(self._store.directory)
            manifest = claim(
                self._store.directory,
                self._config,
                self._tasks.records,
                stored_tasks=stored_tasks,
                tokenizer=tokenizer,
                extensions=extensions,
                paid=bool(writer.rows),
            )
            paid = pay_unrewarded(writer, rewards)
            totals = Totals()
            for trajectory in self._store.trajectories():
                totals.add(trajectory)
            earlier = self._before(totals)
            failures = FailureLog(self._store.directory)
            lifetime.callback(failures.close)
            phases = PhaseLog(self._store.directory)
            lifetime.callback(phases.close)
            torn = writer.quarantined
            untold = [f"a torn record was moved to {torn}; its trajectory is rolled out again"] if torn else []
            untold += [f"{paid} trajectories that were without a reward have one now"] if paid else []
            if here:
                untold += filter(None, [at_once.told(self._config.scheduling.given_at_once)])
                untold += filter(None, [open_files.shortage(at_once.concurrency)])
            self._opened = _OpenStore(
                lifetime.pop_all(), writer, rewards, manifest.run, totals, earlier, failures, phases, untold
            )
        return self

    def __exit__(self, *exc: object) -> None:
        opened = self._open_store
        self._opened = None
        opened.lifetime.close()

    def group(self, record: TaskRecord, epoch: int = 0) -> RolloutGroup:
        """A task's group in an epoch, and what the store lacks of it; `epoch` counts how often the task came before."""
        return group_of(self._config, record, self._open_store.writer.rows, epoch=epoch)

    def load(self, group: RolloutGroup) -> tuple[Trajectory, ...]:
        """The group's trajectories that are in the store, ordered by sample."""
        rows = self._open_store.writer.rows
        return tuple(self._store.load(rows[key]) for key in group.keys if key in rows)

    async def run(
        self,
        groups: Sequence[RolloutGroup] | GroupSource | None = None,
        *,
        signals: bool = False,
        supply: TaskSupply | None = None,
        leave_out: bool | None = None,
    ) -> RolloutResult:
        """Roll out what the store lacks of these groups, by default of one group per task; of a source, until it gives
        no more. One call at a time. A `supply` is opened for its length. `leave_out`: a task that cannot be rolled out
        costs itself only; by default that holds where no groups are given.

        `signals`: while trajectories run, the first Ctrl-C or SIGTERM calls `stop` and the second one `cancel`. Raises
        `UserError` for bad input, `RunAborted` if nothing works any more, `ExtensionFailed` if the reward function
        fails, and bugs; `summary.json` is up to date in each case.
        """
        opened = self._open_store
        if leave_out is None:
            leave_out = groups is None  # who chooses groups needs all of them
        if groups is None:
            wanted = wanted_trajectories(self._config, self._tasks)
            groups = [self.group(record) for record in self._tasks]
        elif isinstance(groups, GroupSource):
            wanted = opened.totals.trajectories
        else:
            wanted = opened.totals.trajectories + sum(len(group.missing) for group in groups)
        progress = RunProgress(
            opened.totals,
            wanted=wanted,
            group_size=self._config.group_size,
            earlier=opened.earlier,
            tell_groups=not self._brief,
            spending=self._spending(opened),
            failures=opened.failures,
            phases=opened.phases,
        )
        while opened.untold:
            progress.news.append(opened.untold.pop(0))
        try:
            ended = await self._orchestrate(groups, progress, signals=signals, supply=supply, leave_out=leave_out)
        finally:
            opened.earlier = progress.summary()
            write_summary(self._store.directory, opened.earlier)
        return RolloutResult(
            directory=self._store.directory,
            summary=opened.earlier,
            interrupted=ended.interrupted,
            budget_spent=ended.budget_spent,
        )

    def stop(self) -> None:
        """Start nothing more and let what runs finish, but no longer than the drain limit."""
        self._interrupted = True
        if self._orchestrator is not None:
            self._orchestrator.stop()

    def cancel(self) -> None:
        """Cancel everything that runs; sandboxes are closed before `run` returns."""
        self._interrupted = True
        if self._orchestrator is not None:
            self._orchestrator.cancel()

    @property
    def _open_store(self) -> _OpenStore:
        if self._opened is None:
            raise RuntimeError("a RolloutRun holds its store only inside `with RolloutRun(...) as rollout`")
        return self._opened

    def _before(self, totals: Totals) -> Summary | None:
        """The summary of earlier processes, with the failed attempts that a killed one did not write there any more."""
        earlier = read_summary(self._store.directory)
        causes = causes_before(self._store.directory, earlier)
        if not causes:
            return earlier
        known = earlier or totals.summary(wanted=0, group_size=1, surplus_cancelled=0, wall_s=0.0)
        return known.model_copy(update={"failure_causes": causes})

    def _spending(self, opened: _OpenStore) -> Spending:
        totals, limits = opened.totals, self._config.native
        billed = totals.most_billed_tokens
        return Spending(
            self._config.budget,
            earlier=used_before(totals, opened.earlier),
            ended=Ended(totals.trajectories if billed else 0, Used(billed, totals.most_usd)),
            most_tokens=limits.max_turns * limits.max_context_tokens,
        )

    async def _orchestrate(
        self,
        groups: Sequence[RolloutGroup] | GroupSource,
        progress: RunProgress,
        *,
        signals: bool,
        supply: TaskSupply | None,
        leave_out: bool,
    ) -> Orchestrator:
        """Run an orchestrator with display and summary beside it; returns it for how it ended."""
        supplying = nullcontext() if supply is None else supply.open(progress.news.append)
        async with self._rolling() as roller, supplying:
            orchestrator = Orchestrator(
                self._config, groups, roller, self._open_store.writer, progress, supply=supply, leave_out=leave_out
            )
            if self._interrupted:
                orchestrator.stop()
            self._orchestrator = orchestrator
            try:
                stopping = two_step_stop(self.stop, self.cancel, progress.news.append) if signals else nullcontext()
                with stopping:
                    await self._report_while(orchestrator.run(), progress)
            finally:
                self._orchestrator = None
        return orchestrator

    @asynccontextmanager
    async def _rolling(self) -> AsyncIterator[Roller]:
        """What rolls out: on this host, unless it was said to be elsewhere."""
        opened, directory = self._open_store, self._store.directory
        if self._elsewhere is not None:
            yield self._elsewhere(self._config, self._tasks, directory, opened.run_id)
            return
        lent = open_backend(self._config.sandbox) if self._backend is None else nullcontext(self._backend)
        async with lent as backend, self._open_components(self._config, self._tasks) as components:
            yield LocalRoller(
                self._config,
                components,
                backend,
                directory,
                run=opened.run_id,
                rewards=opened.rewards,
                places=self._places,
            )

    async def _report_while(self, running: Awaitable[None], progress: RunProgress) -> None:
        """Await the run with the display and the summary file kept up to date beside it."""
        reporters = [
            asyncio.create_task(show(progress, every_s=self._line_every_s, live=not self._brief)),
            asyncio.create_task(self._keep_summary(progress)),
        ]
        try:
            await running
        finally:
            for reporter in reporters:
                reporter.cancel()
            await asyncio.wait(reporters)
        for reporter in reporters:
            if not reporter.cancelled():
                reporter.result()

    async def _keep_summary(self, progress: RunProgress) -> None:
        while True:
            await asyncio.sleep(_SUMMARY_EVERY_S)
            write_summary(self._store.directory, progress.summary())
            self._open_store.writer.write_card()


async def roll_out(
    config: RolloutConfig,
    tasks: TaskSet,
    directory: Path,
    *,
    signals: bool = False,
    elsewhere: MakeRoller | None = None,
) -> RolloutResult:
    """Roll out what the store in `directory` lacks of one group per task. Notes about the tasks go to stderr.

    `signals` and errors are those of `RolloutRun.run`, `elsewhere` that of `RolloutRun`. A task that is cancelled
    closes its sandboxes first; what was finished is kept.
    """
    with run_log(directory):
        for note in tasks.notes:
            tell(note)
        require_fitting_model(config)
        with RolloutRun(config, tasks, Store(directory), elsewhere=elsewhere) as rollout:
            return await rollout.run(signals=signals)


def _fingerprint(config: RolloutConfig) -> str:
    """What stands for the run's tokenizer. Raises `UserError` if there is none."""
    if config.tokenizer is None:
        check_policy(config.policy)  # before the tokenizer that is looked for beside it
    return run_tokenizer(config)


def wanted_trajectories(config: RolloutConfig, tasks: TaskSet) -> int:
    """Trajectories that the store will hold when one group of each task is done."""
    return len(tasks) * (config.group_size if config.early_completion else block_size(config))


@contextmanager
def two_step_stop(stop: Callable[[], None], cancel: Callable[[], None], say: Callable[[str], None]) -> Iterator[None]:
    """While the body runs, the first SIGINT or SIGTERM calls `stop` and the second one `cancel`.

    A third one has its default effect: sandboxes are then left to their reaper.
    """
    loop = asyncio.get_running_loop()
    stopping = False

    def restore() -> None:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)

    def handle() -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            say("stopping: no new trajectories, running ones may finish; once more to end them now")
            stop()
        else:
            say("ending now: closing the sandboxes")
            restore()
            cancel()

    for number in _SIGNALS:
        loop.add_signal_handler(number, handle)
    try:
        yield
    finally:
        restore()
