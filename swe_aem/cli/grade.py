"""`swe-aem grade`: grade predictions, or read kept logs again."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swe_aem.cli.command import SectionedCommand
from swe_aem.cli.mirror import Mirrored, with_settings
from swe_aem.cli.options import (
    SANDBOX_HELP,
    IdsFrom,
    NoLimits,
    NoTwins,
    as_setting,
    complete_sandbox,
    complete_tasks,
    with_short_options,
)
from swe_aem.cli.rollout import as_bytes
from swe_aem.cli.tell import complain, tell
from swe_aem.core.settings import load
from swe_aem.errors import UserError
from swe_aem.rollout import RolloutConfig
from swe_aem.table import table

if TYPE_CHECKING:
    from swe_aem.predictions import GradeResult, Rereading
    from swe_aem.tasks import TaskSet

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_EXAMPLES = """\b
Examples:
  swe-aem grade --tasks SWE-bench/SWE-bench_Verified --sandbox docker --predictions preds.json \\
      --workers 8 --out runs/graded
      the patches that another tool made, each in a fresh sandbox
  swe-aem grade --tasks tasks/micro --predictions runs/qwen --out runs/qwen-again
      the patches of a rollout once more
  swe-aem grade --tasks tasks/micro --predictions runs/qwen --from-logs --out runs/qwen-reread
      a parser or rule was fixed: what do the logs say now? Nothing is run

\b
PREDICTIONS is a preds.json (an object by instance id, or a list), a file with one JSON object per
line, or the --out of a rollout. Rows have instance_id, model_patch and model_name_or_path. OUT has
verdicts.jsonl, one object per prediction, the logs, and summary.json. Repeat a command to resume
after a crash or Ctrl-C: verdicts are kept. `swe-aem eval OUT` says more, and compares two.
Exit code 1: some predictions have no verdict; 2: wrong input; 130: interrupted. More:
swe-aem docs grade
"""

_PANELS = {
    "Tasks": (
        Mirrored(
            "tasks", help="Task set that the patches are for, as in a rollout.", default="that of the store",
            metavar="SET", completion=complete_tasks,
        ),
        Mirrored("split"),
        Mirrored("family", metavar="NAME"),
        Mirrored("ids", "--id", "Only this task; repeat for more.", metavar="ID"),
        Mirrored("limit"),
    ),
    "Grading": (
        Mirrored("scheduling.grading", "--workers", "Patches graded at once."),
        Mirrored(
            "reward", help="What a verdict pays: resolved, fraction or graded.", metavar="NAME", parser=as_setting
        ),
        Mirrored("scheduling.max_attempts", help="Most attempts per patch after infrastructure failures."),
        Mirrored(
            "max_log_bytes", "--max-log", "Size up to which a compressed log is kept; 0 keeps none.", "1m",
            metavar="SIZE", parser=as_bytes,
        ),
        Mirrored("cluster", help="Grade on the hosts of a Ray cluster.", metavar="auto|HOST:PORT"),
    ),
    "Sandboxes": (
        Mirrored(
            "sandbox", help=SANDBOX_HELP, metavar="NAME|{...}", parser=as_setting, completion=complete_sandbox
        ),
        Mirrored("limits.memory_bytes", "--memory", "Memory of a sandbox.", "4g", metavar="SIZE", parser=as_bytes),
        Mirrored("limits.cpus", help="CPUs of a sandbox."),
        Mirrored("limits.pids", help="Processes of a sandbox."),
        Mirrored("limits.disk_bytes", "--disk", "What a sandbox may write.", "4g", metavar="SIZE", parser=as_bytes),
    ),
}  # fmt: skip
"""The settings that have an option; --set reaches all."""
_SHOWN = 40


@app.command(epilog=_EXAMPLES, cls=SectionedCommand)
@with_settings(RolloutConfig, _PANELS)
def grade(
    given: dict[str, Any],
    predictions: Annotated[
        Path, typer.Option("--predictions", metavar="FILE|STORE", help="Patches: preds.json, JSONL, or a rollout.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Directory of the verdicts.")],
    from_logs: Annotated[
        bool,
        typer.Option("--from-logs", help="Run nothing: read the kept logs of a rollout, or of another --out, again."),
    ] = False,
    ids_from: IdsFrom = None,
    no_limits: NoLimits = False,
    no_twins: NoTwins = False,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any setting of a rollout, e.g. scheduling.grade_extra_s=60; repeat for more.",
        ),
    ] = None,
) -> None:
    """Grade patches that were made elsewhere, exactly as the patches of a rollout are graded.

    Each in a fresh sandbox, with the same hygiene, evidence and retries. Beside the verdict stands
    what swebench's own rule says of the same log.
    """
    given = _of_store(predictions) | given
    if "tasks" not in given:
        raise UserError("--tasks is missing: name the set that the predictions are for")
    given = with_short_options(given, ids_from=ids_from, no_limits=no_limits, no_twins=no_twins)
    if from_logs:
        raise typer.Exit(_read_again(predictions, out, given, assignments or ()))
    raise typer.Exit(_grade(predictions, out, load(RolloutConfig, None, given, assignments or ())))


def _of_store(source: Path) -> dict[str, Any]:
    """The task set of a store, or of another directory of verdicts, and how its rewards are made, if a verdict alone
    says that."""
    from swe_aem.rollout import by_verdict_alone, read_manifest

    manifest = read_manifest(source) if source.is_dir() else None
    if manifest is None:
        return {}
    reward = manifest.config.reward if by_verdict_alone(manifest.config.reward) else None
    found = {
        "tasks": manifest.config.tasks,
        "split": manifest.config.split,
        "family": manifest.config.family,
        "reward": reward,
    }
    return {name: value for name, value in found.items() if value is not None}


def _tasks(settings: RolloutConfig) -> "TaskSet":
    from swe_aem.cli.load import load_and_tell

    return load_and_tell(
        settings.tasks, split=settings.split, ids=settings.ids, limit=settings.limit, family=settings.family
    )


def _grade(source: Path, directory: Path, settings: RolloutConfig) -> int:
    """Grade, say how it went, and return the exit code."""
    from swe_aem.predictions import GradeRun, of_tasks, read_predictions
    from swe_aem.rollout import RunAborted

    read = read_predictions(source)
    tasks = _tasks(settings)
    predictions = of_tasks(read, tasks)
    for note in predictions.notes:
        tell(note)
    count = len(predictions.found)
    tell(f"{count} {'prediction' if count == 1 else 'predictions'} to grade, into {directory}")
    try:
        result = asyncio.run(GradeRun(settings, tasks, predictions, directory).run(signals=True))
    except RunAborted as error:
        complain(error)
        return 1
    _report(directory, result)
    if result.interrupted:
        left = result.summary.predictions - sum(result.summary.outcomes.values())
        what = "1 prediction" if left == 1 else f"{left} predictions"
        tell(f"interrupted with {what} to go: repeat the command to grade {'it' if left == 1 else 'them'}")
        return 130
    if result.summary.failures:
        failed = len(result.summary.failures)
        complain(
            f"{'1 prediction has' if failed == 1 else f'{failed} predictions have'} no verdict for infrastructure "
            f"failures: fix the cause and repeat the command, which tries only {'it' if failed == 1 else 'these'} again"
        )
        return 1
    return 0


def _report(directory: Path, result: "GradeResult") -> None:
    """The same lines that `swe-aem eval` has for the directory."""
    from swe_aem.evaluate import lines, read_run, report

    if result.summary.outcomes:
        typer.echo("\n".join(lines(report(directory, *read_run(directory)))))


def _read_again(source: Path, directory: Path, given: dict[str, Any], assignments: Any) -> int:
    """Read kept logs again, and say which verdicts changed."""
    from swe_aem.predictions import grade_from_logs

    if source.resolve() == directory.resolve():
        raise UserError("--out is where the logs are: name another directory")
    settings = load(RolloutConfig, None, given, assignments)
    if settings.cluster is not None:
        raise UserError("--cluster is for grading in sandboxes, and --from-logs runs nothing: leave one out")
    found = asyncio.run(grade_from_logs(settings, _tasks(settings), source, directory, tell=tell))
    for note in found.summary.left_out:
        tell(note)
    typer.echo("\n".join(_changes(found, directory)))
    return 0


def _changes(found: "Rereading", directory: Path) -> Iterator[str]:
    yield (
        f"{len(found.rows)} verdicts in {directory}: {len(found.changed)} changed; swebench's rule alone says "
        f"something else of {len(found.officially_changed)}"
    )
    for reason, count in found.stayed.items():
        yield f"  {count} stay as they were: {reason}"
    rows = [
        (row.key, row.before.outcome, row.outcome, "; ".join(row.evidence) or "-")
        for row in found.changed
        if row.before is not None
    ]
    yield from table(rows[:_SHOWN], head=("sample", "was", "is", "evidence"), indent=2)
    if len(rows) > _SHOWN:
        yield f"  and {len(rows) - _SHOWN} more: `before` in {directory}/verdicts.jsonl has what each was"
