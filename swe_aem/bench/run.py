"""`bench`: images, rollouts, verdicts, predictions and one page, in one run that resumes where it was ended."""

import json
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import get_args

from swe_aem.bench.images import TaskImages, by_image, task_images
from swe_aem.bench.page import BenchPage, read_page, write_pages
from swe_aem.bench.plan import ImagePlan, Plan
from swe_aem.core import TaskRecord
from swe_aem.core.base import Frozen
from swe_aem.errors import UserError
from swe_aem.fleet import roller_for
from swe_aem.policy import POLICIES
from swe_aem.rollout import NATIVE, RolloutConfig, RolloutGroup, RolloutRun, wanted_trajectories
from swe_aem.rollout.group import group_of
from swe_aem.sandbox import open_backend
from swe_aem.sandbox.engines import EngineName
from swe_aem.store import Store, Summary, predictions, read_summary, replace
from swe_aem.tasks import TaskSet


class BenchResult(Frozen):
    """How a run ended."""

    page: BenchPage | None
    """None if the store is empty."""
    summary: Summary | None
    """The numbers of the store."""
    interrupted: bool
    budget_spent: bool
    """Ended because what is left of the budget is not enough for another trajectory."""


async def bench(
    config: RolloutConfig,
    tasks: TaskSet,
    directory: Path,
    *,
    disk_bytes: int | None = None,
    mirrors: Sequence[str] = (),
    tell: Callable[[str], None],
    signals: bool = False,
) -> BenchResult:
    """Work through a task set, and write `preds.json`, `report.txt` and `report.html` beside the trajectories.

    On an engine of this host, images are pulled as tasks need them, and removed when there is no room for the next ones
    within `disk_bytes`. With a `cluster` its hosts roll out. `tell` is told what the run needs before it begins. Raises
    what `RolloutRun` raises; the files are written in each case.
    """
    _check_engine(config, disk_bytes, mirrors)
    elsewhere = roller_for(config)
    async with nullcontext() if elsewhere is not None else open_backend(config.sandbox) as backend:
        with RolloutRun(config, tasks, Store(directory), backend=backend, elsewhere=elsewhere) as rollout:
            groups = {record.task.id: rollout.group(record) for record in tasks}
            todo = by_image(record for record in tasks if groups[record.task.id].missing)
            forget = getattr(backend, "release_image", _nothing)
            interrupted = budget_spent = False
            try:
                async with _supplied(config, todo, forget, disk_bytes, mirrors) as (supply, images):
                    plan = _plan(config, tasks, groups.values(), images, directory)
                    for line in plan.lines(disk_asked=disk_bytes is not None):
                        tell(line)
                    if todo:
                        missing = [groups[record.task.id] for record in todo]
                        ended = await rollout.run(missing, signals=signals, supply=supply, leave_out=True)
                        interrupted, budget_spent = ended.interrupted, ended.budget_spent
            finally:
                page = _write(config, directory)
    return BenchResult(page=page, summary=read_summary(directory), interrupted=interrupted, budget_spent=budget_spent)


async def plan_lines(
    config: RolloutConfig,
    tasks: TaskSet,
    directory: Path,
    *,
    disk_bytes: int | None = None,
    mirrors: Sequence[str] = (),
) -> list[str]:
    """What `bench` would tell before it begins; nothing is written."""
    _check_engine(config, disk_bytes, mirrors)
    rows = Store(directory).index() if (directory / "trajectories").is_dir() else {}
    groups = {record.task.id: group_of(config, record, rows) for record in tasks}
    todo = by_image(record for record in tasks if groups[record.task.id].missing)
    async with _supplied(config, todo, _nothing, disk_bytes, mirrors) as (_, images):
        plan = _plan(config, tasks, groups.values(), images, directory)
        return list(plan.lines(disk_asked=disk_bytes is not None))


def bench_directory(config: RolloutConfig) -> Path:
    """Where a run goes that was given no place: its name has the task set, the agent and the model."""
    parts = [Path(config.tasks).stem, config.agent_name if config.agent_name != NATIVE else None, model_of(config)]
    words = [
        re.sub(r"[^\w.-]+", "-", Path(part).name if "://" not in part else part).strip("-.") for part in parts if part
    ]
    return Path("runs") / "bench" / "-".join(words)


def model_of(config: RolloutConfig) -> str:
    """The name of what is evaluated: the model where one is named, else the server or the policy."""
    policy = config.policy if isinstance(config.policy, dict) else {}
    named = policy.get("model") or policy.get("url")
    return str(named) if named else POLICIES.name_of(config.policy)


def _engine_of(config: RolloutConfig) -> EngineName | None:
    """This host's engine that has the images of the sandboxes; None where they need none, or are on other hosts."""
    if config.cluster is not None:
        return None
    return next((name for name in get_args(EngineName) if name == config.sandbox.type), None)


def _check_engine(config: RolloutConfig, disk_bytes: int | None, mirrors: Sequence[str]) -> None:
    """Raises `UserError` for options about images where there is no engine."""
    if _engine_of(config) is None and (disk_bytes is not None or mirrors):
        what = "--disk" if disk_bytes is not None else "--mirror"
        if config.cluster is not None:
            raise UserError(
                f"{what} is for the engine of this host, and a cluster's hosts have their own: leave it out"
            )
        raise UserError(
            f"{what} is for images of an engine, and the sandbox {config.sandbox.type} has none: use --sandbox docker "
            f"or podman, or leave {what} out"
        )


@asynccontextmanager
async def _supplied(
    config: RolloutConfig,
    todo: Sequence[TaskRecord],
    forget: Callable[[str], None],
    disk_bytes: int | None,
    mirrors: Sequence[str],
) -> AsyncIterator[tuple[TaskImages | None, ImagePlan | None]]:
    engine = _engine_of(config)
    if engine is None or not todo:
        yield None, None
        return
    ahead = config.at_once.concurrency
    async with task_images(
        engine, todo, forget=forget, disk_bytes=disk_bytes, ahead=ahead, mirrors=mirrors
    ) as supplied:
        yield supplied


def _plan(
    config: RolloutConfig,
    tasks: TaskSet,
    groups: Iterable[RolloutGroup],
    images: ImagePlan | None,
    directory: Path,
) -> Plan:
    earlier = read_summary(directory)
    worked = earlier is not None and earlier.trajectories > 0
    return Plan(
        tasks=len(tasks),
        trajectories=wanted_trajectories(config, tasks),
        missing=sum(len(group.missing) for group in groups),
        concurrency=config.at_once.concurrency,
        time_limit_s=config.time_limit_s,
        per_trajectory_s=earlier.wall_s / earlier.trajectories if earlier is not None and worked else None,
        images=images,
    )


def _nothing(image: str) -> None:
    """Nothing is reserved where no sandbox was opened."""


def _write(config: RolloutConfig, directory: Path) -> BenchPage | None:
    """Write what the store says so far: predictions, one file per sample, and the page."""
    page = read_page(directory, model=model_of(config))
    if page is None:
        return None
    for sample in range(config.group_size):
        found, _ = predictions(Store(directory), sample)
        name = "preds.json" if sample == 0 else f"preds.{sample}.json"
        replace(directory / name, json.dumps(found, indent=2) + "\n")
    write_pages(page, directory)
    return page
