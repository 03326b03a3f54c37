"""A whole rollout into one directory: lock, recover, roll out, report, summarise."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from swe_aem.core import SandboxBackend
from swe_aem.core.base import Frozen
from swe_aem.rollout.board import Board
from swe_aem.rollout.config import RolloutConfig
from swe_aem.rollout.crew import Crew
from swe_aem.rollout.group import groups_of
from swe_aem.rollout.manifest import claim
from swe_aem.rollout.orchestrator import Orchestrator
from swe_aem.rollout.progress import show
from swe_aem.rollout.signals import two_step_stop
from swe_aem.store import Store, Summary, Totals, read_summary, write_summary
from swe_aem.tasks import TaskSet

_SUMMARY_EVERY_S = 10.0


class Finished(Frozen):
    """How a rollout ended."""

    summary: Summary
    interrupted: bool
    """Ended by a signal before all trajectories were in the store."""

    @property
    def failure_rate(self) -> float:
        """Share of trajectories without a verdict for a reason of ours, 0..1."""
        return self.summary.infrastructure_failures / max(1, self.summary.trajectories)


async def roll_out(
    config: RolloutConfig,
    tasks: TaskSet,
    directory: Path,
    backend: SandboxBackend,
    open_crew: Callable[[RolloutConfig, TaskSet], AbstractAsyncContextManager[Crew]],
    *,
    line_every_s: float = 30.0,
) -> Finished:
    """Fill the store in `directory`, going on where an earlier process ended.

    Raises `UserError` (locked, another run's directory, bad input), `RunAborted`, and bugs; the summary is up to date
    in each case.
    """
    with Store(directory).writer() as writer:
        manifest = claim(directory, config, tasks.records, stored_tasks={task_id for task_id, _ in writer.entries})
        board = _board(config, tasks, writer.store)
        if writer.quarantined is not None:
            board.news.append(f"a torn record was moved to {writer.quarantined}; its trajectory is rolled out again")
        try:
            async with open_crew(config, tasks) as crew:
                groups = groups_of(config, tasks.records, writer.entries)
                orchestrator = Orchestrator(config, groups, crew, backend, writer, board, run=manifest.run)
                with two_step_stop(orchestrator.stop, orchestrator.cancel, board.news.append):
                    await _reporting(orchestrator, board, directory, line_every_s)
        finally:
            write_summary(directory, board.summary())
        return Finished(summary=board.summary(), interrupted=orchestrator.interrupted)


def wanted(config: RolloutConfig, tasks: TaskSet) -> int:
    """Trajectories that the store shall hold when all is done."""
    per_task = config.group_size if config.early_completion else config.group_size + config.oversample
    return len(tasks) * per_task


def _board(config: RolloutConfig, tasks: TaskSet, store: Store) -> Board:
    totals = Totals()
    for trajectory in store.trajectories():
        totals.add(trajectory)
    earlier = read_summary(store.directory)
    return Board(
        totals,
        wanted=wanted(config, tasks),
        group_size=config.group_size,
        earlier_wall_s=earlier.wall_s if earlier else 0.0,
        earlier_surplus=earlier.surplus_cancelled if earlier else 0,
    )


async def _reporting(orchestrator: Orchestrator, board: Board, directory: Path, line_every_s: float) -> None:
    """Run the orchestrator with the display and the summary file kept up to date beside it."""
    reporters = [
        asyncio.create_task(show(board, every_s=line_every_s)),
        asyncio.create_task(_keep_summary(board, directory)),
    ]
    try:
        await orchestrator.run()
    finally:
        for reporter in reporters:
            reporter.cancel()
        await asyncio.wait(reporters)
    for reporter in reporters:
        if not reporter.cancelled():
            reporter.result()


async def _keep_summary(board: Board, directory: Path) -> None:
    while True:
        await asyncio.sleep(_SUMMARY_EVERY_S)
        write_summary(directory, board.summary())
