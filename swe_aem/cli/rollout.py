"""`swe-aem rollout`: run an agent against tasks, grade its patches, store the trajectories."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from swe_aem.cli.command import SectionedCommand
from swe_aem.cli.mirror import Mirrored, with_settings
from swe_aem.cli.options import (
    SANDBOX_HELP,
    ApiKeyEnv,
    IdsFrom,
    ModelName,
    NoLimits,
    NoTwins,
    as_setting,
    complete_agent,
    complete_policy,
    complete_reward,
    complete_sandbox,
    complete_tasks,
    with_short_options,
)
from swe_aem.cli.tell import complain
from swe_aem.core.settings import load
from swe_aem.errors import RunAborted
from swe_aem.policy import check_policy
from swe_aem.rollout import RolloutConfig, default_directory
from swe_aem.runlog import keep_in
from swe_aem.table import table

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_EXAMPLES = """\b
Examples:
  swe-aem rollout --limit 4
      the gold patches of four bundled tasks: does everything work on this machine?
  swe-aem rollout --agent native --policy ./Qwen3-0.6B --group-size 8 --out runs/first
      eight trajectories per task from a model in this process
  swe-aem rollout --agent native --policy http://localhost:8000 --tokenizer ./Qwen3-32B \\
      --tasks SWE-bench/SWE-bench_Verified --sandbox docker --concurrency 32 --out runs/verified
      a server that takes token ids, and real repositories
  swe-aem rollout --agent native --policy chat:https://api.openai.com/v1 --model NAME --out runs/api
      any chat API, with the key in OPENAI_API_KEY: to evaluate, not to train
  swe-aem rollout --agent replay --replay-from runs/first --out runs/again
      the stored actions once more, in fresh sandboxes

\b
Repeat a command to resume after a crash or Ctrl-C: finished trajectories are kept. The first Ctrl-C
lets running trajectories finish, the second one ends them. Exit code 1: too many infrastructure
failures, or tasks that were left out; 2: wrong input; 3: the budget is used up; 130: interrupted.
More: swe-aem docs rollouts
"""


def as_bytes(text: str) -> int:
    """`512m`, `4g` or a number of bytes."""
    units = {"k": 10, "m": 20, "g": 30, "t": 40}
    digits, unit = (text[:-1], text[-1].lower()) if text[-1:].lower() in units else (text, "")
    try:
        return int(float(digits) * (1 << units.get(unit, 0)))
    except ValueError:
        raise typer.BadParameter(f"{text} is no size; give one such as 512m or 4g") from None


PANELS = {
    "Tasks": (
        Mirrored("tasks", metavar="SET", completion=complete_tasks),
        Mirrored("split"),
        Mirrored("family", metavar="NAME"),
        Mirrored("ids", "--id", "Only this task; repeat for more.", metavar="ID"),
        Mirrored("limit"),
        Mirrored("lock"),
        Mirrored("lock_policy"),
        Mirrored("max_passing_mutants", metavar="SHARE"),
    ),
    "Agent and policy": (
        Mirrored("agent", metavar="NAME|FILE", completion=complete_agent),
        Mirrored("policy", metavar="URL|DIR|NAME", completion=complete_policy),
        Mirrored("tokenizer", metavar="DIR|FILE|bytes"),
        Mirrored("replay_from", metavar="STORE"),
        Mirrored("native.max_turns", help="Turns per trajectory."),
        Mirrored("native.max_context_tokens", help="Tokens per trajectory."),
        Mirrored("native.max_response_tokens", help="Tokens per response."),
        Mirrored("native.command_timeout_s", help="Seconds per tool call."),
        Mirrored("native.temperature", help="Sampling temperature; 0 is greedy."),
        Mirrored("native.top_p", help="Nucleus of sampling; train with 1."),
        Mirrored("native.seed", help="Every request's seed is made from it, task, sample and turn."),
        Mirrored("time_limit_s"),
        Mirrored("budget.tokens", "--budget-tokens", metavar="N"),
        Mirrored("budget.usd", "--budget-usd", metavar="X"),
    ),
    "Groups": (
        Mirrored("group_size"),
        Mirrored("oversample"),
        Mirrored("early_completion"),
        Mirrored("reward", metavar="NAME|{...}", parser=as_setting, completion=complete_reward),
    ),
    "Sandboxes": (
        Mirrored("sandbox", help=SANDBOX_HELP, metavar="NAME|{...}", parser=as_setting, completion=complete_sandbox),
        Mirrored("limits.memory_bytes", "--memory", "Memory of a sandbox.", "4g", metavar="SIZE", parser=as_bytes),
        Mirrored("limits.cpus", help="CPUs of a sandbox."),
        Mirrored("limits.pids", help="Processes of a sandbox."),
        Mirrored("limits.disk_bytes", "--disk", "What a sandbox may write.", "4g", metavar="SIZE", parser=as_bytes),
    ),
    "Scheduling": (
        Mirrored("scheduling.concurrency"),
        Mirrored("scheduling.starting"),
        Mirrored("scheduling.grading"),
        Mirrored("scheduling.max_attempts"),
        Mirrored("scheduling.max_failure_rate"),
        Mirrored("cluster", metavar="auto|HOST:PORT"),
    ),
}
"""The settings that have an option; --set reaches all."""


@app.command(epilog=_EXAMPLES, cls=SectionedCommand)
@with_settings(RolloutConfig, PANELS)
def rollout(
    given: dict[str, Any],
    model: ModelName = None,
    api_key_env: ApiKeyEnv = None,
    ids_from: IdsFrom = None,
    no_limits: NoLimits = False,
    no_twins: NoTwins = False,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file with settings; options override it.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any setting, e.g. scheduling.drain_limit_s=60; overrides options; repeat for more.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory of the store. [default: runs/TASKS-AGENT-SANDBOX]")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved settings and the number of tasks; do nothing.")
    ] = False,
) -> None:
    """Run an agent on tasks, each in a sandbox of its own; grade the patches; store the trajectories.

    Without options: the gold patches of all bundled tasks, in bubblewrap. One trajectory is one line of
    OUT/trajectories/*.jsonl, which datasets.load_dataset("OUT") reads; OUT/summary.json has the numbers.
    """
    given = with_short_options(
        given, model=model, api_key_env=api_key_env, ids_from=ids_from, no_limits=no_limits, no_twins=no_twins
    )
    settings = load(RolloutConfig, config, given, assignments or ())
    check_policy(settings.policy)
    directory = out or default_directory(settings)
    if dry_run:
        _print_plan(settings, directory)
    else:
        keep_in(directory)
        raise typer.Exit(_run(settings, directory))


def _print_plan(settings: RolloutConfig, directory: Path) -> None:
    import yaml

    from swe_aem.reward import Rewards
    from swe_aem.rollout import chosen_tasks, used_extensions, wanted_trajectories

    tasks = chosen_tasks(settings)
    Rewards(settings.reward)
    used_extensions(settings, tasks)
    typer.echo(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False), nl=False)
    typer.echo(f"# {len(tasks)} tasks, {wanted_trajectories(settings, tasks)} trajectories, into {directory}")


def _run(settings: RolloutConfig, directory: Path) -> int:
    """Roll out, say how it went, and return the exit code."""
    from swe_aem.fleet import roller_for
    from swe_aem.rollout import chosen_tasks, roll_out
    from swe_aem.rollout.display import money
    from swe_aem.rollout.run_end import left_out_lines, spent_line
    from swe_aem.store import broken_task_lines

    try:
        elsewhere = roller_for(settings)
        tasks = chosen_tasks(settings)
        finished = asyncio.run(roll_out(settings, tasks, directory, signals=True, elsewhere=elsewhere))
    except RunAborted as error:
        complain(error)
        return 1
    summary = finished.summary
    typer.echo(
        f"{summary.trajectories} of {summary.wanted} trajectories in {directory}: {summary.resolved} resolved "
        f"({summary.resolved_rate:.1%}), {summary.infrastructure_failures} infrastructure failures, "
        f"{summary.retries} attempts retried, {summary.wall_s:.0f} s"
    )
    for line in table(list(summary.outcomes.items()), indent=2):
        typer.echo(line)
    if summary.cost_usd is not None:
        typer.echo(f"  {summary.billed_tokens:,} tokens were billed, {money(summary.cost_usd)}")
    for line in broken_task_lines(summary.broken_tasks):
        complain(line)
    for line in left_out_lines(summary.left_out):
        complain(line)
    if finished.interrupted:
        return 130
    if finished.budget_spent:
        complain(spent_line(settings.budget, summary))
        return 3
    limit = settings.scheduling.max_failure_rate
    if finished.failure_rate > limit:
        complain(f"{finished.failure_rate:.1%} infrastructure failures, above --max-failure-rate {limit:.1%}")
        return 1
    return 1 if summary.left_out else 0
