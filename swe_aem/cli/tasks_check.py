"""`swe-aem tasks check`: preflight of a task set, and its lock."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swe_aem.cli.load import load_and_tell
from swe_aem.cli.options import Family, Ids, Limit, NoLimits, Sandbox, Split, Tasks, limits
from swe_aem.cli.strength_lines import strength_lines
from swe_aem.cli.tell import complain, tell
from swe_aem.cli.twin_lines import twin_lines
from swe_aem.errors import RunAborted
from swe_aem.table import table

if TYPE_CHECKING:
    from swe_aem.preflight import CheckConfig, CheckResult, TaskCheck
    from swe_aem.tasks import TaskSet

_LINE_EVERY_S = 30.0
_SHOWN = 40


def check(
    tasks: Tasks = "micro",
    split: Split = None,
    family: Family = None,
    ids: Ids = None,
    limit: Limit = None,
    sandbox: Sandbox = "bubblewrap",
    lock: Annotated[
        Path | None, typer.Option("--lock", help="File to write. [default: tasks.lock beside the set, or here]")
    ] = None,
    gold: Annotated[int, typer.Option("--gold", min=1, help="Times that the gold patch is graded.")] = 3,
    noop: Annotated[int, typer.Option("--noop", min=1, help="Times that an empty patch is graded.")] = 1,
    strength: Annotated[
        int,
        typer.Option(
            "--strength",
            metavar="N",
            min=0,
            help="Also grade up to N mutants of each gold patch: wrong patches, which tests should not let pass.",
        ),
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", help="Which mutants --strength makes.")] = 0,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Tasks checked at once, on each host.")] = 2,
    cluster: Annotated[
        str | None, typer.Option("--cluster", metavar="auto|HOST:PORT", help="Check on the hosts of a Ray cluster.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Check again tasks that the lock holds already.")] = False,
    user: Annotated[
        str | None,
        typer.Option(
            "--user",
            help="User inside the sandboxes, as in the rollouts to come. Checked tasks need --again.",
        ),
    ] = None,
    capabilities: Annotated[
        list[str] | None,
        typer.Option("--capability", help="Linux capability that sandboxes keep; may be given several times."),
    ] = None,
    no_limits: NoLimits = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Check whether tasks are fit for training.

    For each task: the gold patch resolves it every time, an empty patch never does, and every test says the same each
    time. Also noted: the network policy that its tests need, image digest, seconds to start and to test, peak memory,
    and how many tests have a twin, a contradiction that catches patches which make tests pass without solving the task.
    With --strength, how strong its tests are: the share of wrong patches near the gold patch that they let pass. The
    results go to a lock, which `swe-aem rollout --lock FILE` can require. An interrupted check resumes where
    it was; only what is new or changed is checked again. Exit code 1 if a task is not fit or could not be checked.

    Example: swe-aem tasks check --tasks my-set --sandbox docker --jobs 8 --strength 10
    """
    from swe_aem.core.settings import check as checked_settings
    from swe_aem.preflight import CheckConfig, RunCounts, StrengthConfig
    from swe_aem.rollout import RolloutConfig

    task_set = load_and_tell(tasks, split=split, ids=ids, limit=limit, family=family)
    path = lock or default_lock(tasks)
    settings = {
        "sandbox": sandbox,
        "limits": limits(no_limits),
        "user": user,
        "capabilities": capabilities or (),
        "cluster": cluster,
    }
    rollout = checked_settings(RolloutConfig, settings)
    config = CheckConfig(
        counts=RunCounts(gold=gold, noop=noop),
        jobs=jobs,
        rollout=rollout,
        again=again,
        strength=StrengthConfig(mutants=strength, seed=seed),
    )
    try:
        checked = asyncio.run(_checked(config, task_set, path))
    except RunAborted as error:
        complain(error)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        complain(f"interrupted; {path} holds what was found, repeat the command to resume")
        raise typer.Exit(130) from None
    if as_json:
        typer.echo(checked.model_dump_json(indent=2))
    else:
        _show(checked, path)
    raise typer.Exit(1 if checked.failed or checked.not_checked else 0)


async def _checked(config: "CheckConfig", task_set: "TaskSet", path: Path) -> "CheckResult":
    from swe_aem.preflight import check as run_check
    from swe_aem.sandbox import open_backend

    progress = _progress(time.monotonic())
    if config.rollout.cluster is not None:
        return await run_check(config, task_set, path, None, progress)
    async with open_backend(config.rollout.sandbox) as backend:
        return await run_check(config, task_set, path, backend, progress)


def default_lock(source: str) -> Path:
    """Where the lock of a source lies: beside a set that can be written to, else in the current directory."""
    import os

    from swe_aem.tasks import LOCK_FILE, find_source

    place = find_source(source)
    directory = place if place is not None and place.is_dir() else place.parent if place is not None else None
    if directory is not None and os.access(directory, os.W_OK):
        return directory / LOCK_FILE if place == directory else directory / f"{place.stem}.{LOCK_FILE}"  # type: ignore[union-attr]
    return Path(f"{Path(source).name}.{LOCK_FILE}")


def _progress(began_s: float) -> "Callable[[TaskCheck, int, int], None]":
    """Shows a changing line on a terminal, elsewhere a line now and then; and a line for each task that is not fit."""
    on_terminal, last_s = sys.stderr.isatty(), began_s

    def progress(finding: "TaskCheck", done: int, of: int) -> None:
        nonlocal last_s
        why = _why(finding)
        now_s = time.monotonic()
        left_s = (now_s - began_s) / done * (of - done)
        text = f"{done} of {of} checked, about {left_s / 60:.0f} min left"
        clear = "\r\033[K" if on_terminal else ""
        if why:
            tell(f"{clear}{finding.task_id}: {why}")
        if on_terminal:
            typer.echo(f"{clear}{text}" + ("\n" if done == of else ""), err=True, nl=False)
        elif done == of or now_s - last_s > _LINE_EVERY_S:
            last_s = now_s
            tell(text)

    return progress


def _why(finding: "TaskCheck") -> str:
    from swe_aem.preflight import NotChecked

    return f"not checked: {finding.why}" if isinstance(finding, NotChecked) else "; ".join(finding.problems)


def _show(checked: "CheckResult", path: Path) -> None:
    fit = [entry for entry in checked.entries if entry.passed]
    typer.echo(
        f"{len(fit)} of {len(checked.entries) + len(checked.not_checked)} tasks are fit; {len(checked.failed)} are "
        f"not, {len(checked.not_checked)} could not be checked; {checked.earlier} were known. Lock: {path}"
    )
    if fit:
        boots, tests = sorted(entry.boot_s for entry in fit), sorted(entry.test_s for entry in fit)
        peaks = [entry.peak_memory_bytes for entry in fit if entry.peak_memory_bytes is not None]
        memory = f"{max(peaks) / 2**20:.0f} MiB at most" if peaks else "not measured"
        networks = Counter(entry.network for entry in fit)
        typer.echo(
            f"  start {boots[len(boots) // 2]:.2f} s, tests {tests[len(tests) // 2]:.2f} s (medians; slowest "
            f"{max(entry.max_test_s for entry in fit):.1f} s), memory {memory}, network "
            + ", ".join(f"{name} {count}" for name, count in sorted(networks.items()))
        )
    reasons = Counter(problem.split(",")[0].split(":")[0] for entry in checked.failed for problem in entry.problems)
    for line in table([(count, reason) for reason, count in reasons.most_common()], align="><", indent=2):
        typer.echo(line)
    for finding in [*checked.failed, *checked.not_checked][:_SHOWN]:
        typer.echo(f"  {finding.task_id}: {_why(finding)}")
    for line in (*twin_lines(checked.entries), *strength_lines(checked.entries)):
        typer.echo(f"  {line}")
