"""`swe-aem bench`: a task set with one policy, from its images to a number with an interval."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swe_aem.cli.command import SectionedCommand
from swe_aem.cli.mirror import with_settings
from swe_aem.cli.options import ApiKeyEnv, IdsFrom, ModelName, NoLimits, NoTwins, complete_tasks, with_short_options
from swe_aem.cli.rollout import PANELS
from swe_aem.cli.tell import complain, tell
from swe_aem.core.settings import load
from swe_aem.errors import RunAborted, UserError
from swe_aem.policy import check_policy
from swe_aem.rollout import RolloutConfig
from swe_aem.runlog import keep_in
from swe_aem.sandbox.images.names import BUILT_HERE
from swe_aem.sandbox.images.sizes import parse_bytes

if TYPE_CHECKING:
    from swe_aem.tasks import TaskSet

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_EXAMPLES = """\b
Examples:
  swe-aem bench tasks/micro --policy gold --limit 4
      the gold patches of four bundled tasks: does everything work on this machine?
  swe-aem bench SWE-bench/SWE-bench_Verified --policy chat:https://api.openai.com/v1 --model NAME \\
      --disk 60G --concurrency 16 --out runs/verified
      SWE-bench Verified with a model behind a chat API, images within 60 GiB
  swe-aem bench SWE-bench/SWE-bench_Verified --policy http://localhost:8000 --tokenizer ./Qwen3-32B \\
      --disk 60G --out runs/qwen
      a model whose server takes token ids
  swe-aem eval runs/verified runs/other
      two runs on the same tasks compared

\b
Repeat a command to resume after a crash or Ctrl-C: finished trajectories are kept, and images that were
pulled stay. Exit code 1: too many infrastructure failures, or tasks that were left out; 2: wrong input;
3: the budget is used up; 130: interrupted. More: swe-aem docs bench
"""

_LEFT_OUT = ("--tasks", "--disk", "--reward", "--replay-from", "--oversample", "--early-completion")
"""Options of a rollout that are not about evaluation, or mean something else here."""
_PANELS = {title: [one for one in options if one.option not in _LEFT_OUT] for title, options in PANELS.items()}


def _bytes(text: str) -> int:
    try:
        return parse_bytes(text)
    except UserError as error:
        raise typer.BadParameter(str(error)) from None


@app.command(epilog=_EXAMPLES, cls=SectionedCommand)
@with_settings(RolloutConfig, _PANELS)
def bench(
    given: dict[str, Any],
    tasks: Annotated[
        str,
        typer.Argument(
            metavar="SET",
            help="Task set: a bundled one, a .jsonl, .json or .parquet file, or the id of a Hugging Face data set.",
            autocompletion=complete_tasks,
        ),
    ],
    model: ModelName = None,
    api_key_env: ApiKeyEnv = None,
    disk: Annotated[
        int | None,
        typer.Option(
            "--disk",
            metavar="SIZE",
            parser=_bytes,
            help="What images that are pulled may take in all, e.g. 60G; those that are done make room for the next "
            "ones. [default: 80 % of what is free]",
            show_default=False,
        ),
    ] = None,
    mirror: Annotated[
        list[str] | None,
        typer.Option(
            "--mirror", metavar="REGISTRY=PREFIX", help="Pull from there first, e.g. docker.io=localhost:5000."
        ),
    ] = None,
    ids_from: IdsFrom = None,
    no_limits: NoLimits = False,
    no_twins: NoTwins = False,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file with settings of a rollout; options override it.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any setting of a rollout, e.g. native.temperature=0; overrides options; repeat for more.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Directory of the results. [default: runs/bench/SET-MODEL]", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what the run needs, and do nothing.")] = False,
) -> None:
    """Evaluate a policy on a task set: images, rollouts, verdicts, predictions, one page.

    Says first what it needs of disk, network and time, and asks nothing. OUT/report.html and OUT/report.txt have the
    number with its interval, OUT/preds.json the patches for the official harness, OUT/trajectories everything else.

    Sandboxes are docker's where a task has an image that can be pulled, else bubblewrap's, unless --sandbox says
    otherwise. The agent is native, unless --agent says otherwise.
    """
    from swe_aem.bench import bench_directory

    given = with_short_options(
        given, model=model, api_key_env=api_key_env, ids_from=ids_from, no_limits=no_limits, no_twins=no_twins
    )
    given["tasks"] = tasks
    settings = load(RolloutConfig, config, given, assignments or ())
    if not {"agent", "policy"} & settings.model_fields_set:
        raise UserError("say what to evaluate: --policy URL, DIR or NAME; --policy gold only checks the set")
    check_policy(settings.policy)
    if out is None and not dry_run:
        keep_in(bench_directory(settings))
    chosen = _chosen(settings)
    if "sandbox" not in settings.model_fields_set and any(
        not record.task.image.startswith(BUILT_HERE) for record in chosen
    ):
        settings = load(RolloutConfig, config, {**given, "sandbox": "docker"}, assignments or ())
    raise typer.Exit(_run(settings, chosen, out or bench_directory(settings), disk, mirror or [], dry_run))


def _chosen(settings: RolloutConfig) -> "TaskSet":
    from swe_aem.rollout import chosen_tasks

    tasks = chosen_tasks(settings)
    for note in tasks.notes:
        tell(note)
    return tasks


def _run(
    settings: RolloutConfig, tasks: "TaskSet", directory: Path, disk: int | None, mirror: list[str], dry_run: bool
) -> int:
    """Work through the set, print the page, and return the exit code."""
    from swe_aem.bench import bench, plan_lines, text_lines
    from swe_aem.rollout.run_end import left_out_lines, spent_line

    if dry_run:
        for line in asyncio.run(plan_lines(settings, tasks, directory, disk_bytes=disk, mirrors=mirror)):
            typer.echo(line)
        return 0
    try:
        done = asyncio.run(bench(settings, tasks, directory, disk_bytes=disk, mirrors=mirror, tell=tell, signals=True))
    except RunAborted as error:
        complain(error)
        return 1
    if done.page is None or done.summary is None:
        complain(f"{directory} has no result yet")
        return 130 if done.interrupted else 1
    typer.echo("\n".join(text_lines(done.page)))
    tell(f"{directory / 'report.html'}, {directory / 'report.txt'}, {directory / 'preds.json'}")
    for line in left_out_lines(done.summary.left_out):
        complain(line)
    if done.interrupted:
        return 130
    if done.budget_spent:
        complain(spent_line(settings.budget, done.summary))
        return 3
    failure_rate = done.summary.infrastructure_failures / max(1, done.summary.trajectories)
    limit = settings.scheduling.max_failure_rate
    if failure_rate > limit:
        complain(f"{failure_rate:.1%} infrastructure failures, above --max-failure-rate {limit:.1%}")
        return 1
    return 1 if done.summary.left_out else 0
