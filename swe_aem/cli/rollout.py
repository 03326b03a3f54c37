"""`swe-aem rollout`: run an agent against tasks, grade its patches, store the trajectories."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from swe_aem.core import Limits
from swe_aem.errors import UserError
from swe_aem.rollout.config import NATIVE, RolloutConfig, resolve

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
  swe-aem rollout --agent replay --replay-from runs/first --out runs/again
      the stored actions once more, in fresh sandboxes

\b
Repeat a command to go on after a crash or Ctrl-C: finished trajectories are kept. The first Ctrl-C lets running
trajectories finish, the second one ends them. Exit code 1: too many failures of our side; 2: wrong input;
130: interrupted. docs/rollouts.md has the whole story.
"""


def _setting(name: str, flag: str, help: str | None = None, default: str | None = None) -> Any:
    """An option for one setting of `RolloutConfig`; its help is the field's docstring and default unless given here."""
    *sections, last = name.split(".")
    model: Any = RolloutConfig
    for section in sections:
        model = model.model_fields[section].annotation
    field = model.model_fields[last]
    value = default or field.default
    shown = "" if value in (None, (), False) else f" [default: {value}]"
    return typer.Option(flag, help=" ".join((help or field.description).split()) + shown, show_default=False)


_OPTIONS = {
    "concurrency": "scheduling.concurrency",
    "starting": "scheduling.starting",
    "grading": "scheduling.grading",
    "max_attempts": "scheduling.max_attempts",
    "max_failure_rate": "scheduling.max_failure_rate",
    "max_turns": "native.max_turns",
    "max_context_tokens": "native.max_context_tokens",
    "max_response_tokens": "native.max_response_tokens",
    "command_timeout_s": "native.command_timeout_s",
    "temperature": "native.temperature",
    "top_p": "native.top_p",
    "seed": "native.seed",
    "memory": "limits.memory_bytes",
    "cpus": "limits.cpus",
    "pids": "limits.pids",
    "disk": "limits.disk_bytes",
    "ids": "ids",
}
"""Options whose setting has another name or lies in a section."""

_NOT_SETTINGS = ("ids_from", "config", "assignments", "out", "dry_run", "no_limits")


@app.command(epilog=_EXAMPLES)
def rollout(
    context: typer.Context,
    tasks: Annotated[str | None, _setting("tasks", "--tasks")] = None,
    split: Annotated[str | None, _setting("split", "--split")] = None,
    ids: Annotated[list[str] | None, _setting("ids", "--id", "Only this task; may be given several times.")] = None,
    ids_from: Annotated[
        Path | None,
        typer.Option("--ids-from", help="Only the tasks of this file, as `swe-aem tasks select` writes it."),
    ] = None,
    limit: Annotated[int | None, _setting("limit", "--limit")] = None,
    lock: Annotated[Path | None, _setting("lock", "--lock")] = None,
    lock_policy: Annotated[str | None, _setting("lock_policy", "--lock-policy")] = None,
    agent: Annotated[str | None, _setting("agent", "--agent")] = None,
    policy: Annotated[str | None, _setting("policy", "--policy")] = None,
    tokenizer: Annotated[str | None, _setting("tokenizer", "--tokenizer")] = None,
    replay_from: Annotated[Path | None, _setting("replay_from", "--replay-from")] = None,
    group_size: Annotated[int | None, _setting("group_size", "--group-size")] = None,
    oversample: Annotated[int | None, _setting("oversample", "--oversample")] = None,
    early_completion: Annotated[bool | None, _setting("early_completion", "--early-completion")] = None,
    sandbox: Annotated[str | None, _setting("sandbox", "--sandbox")] = None,
    memory: Annotated[str | None, _setting("limits.memory_bytes", "--memory", "Memory of a sandbox.", "4g")] = None,
    cpus: Annotated[float | None, _setting("limits.cpus", "--cpus", "CPUs of a sandbox.")] = None,
    pids: Annotated[int | None, _setting("limits.pids", "--pids", "Processes of a sandbox.")] = None,
    disk: Annotated[str | None, _setting("limits.disk_bytes", "--disk", "What a sandbox may write.", "4g")] = None,
    no_limits: Annotated[
        bool, typer.Option("--no-limits", help="No limits but time: for hosts without a writable control group.")
    ] = False,
    time_limit_s: Annotated[float | None, _setting("time_limit_s", "--time-limit-s")] = None,
    max_turns: Annotated[int | None, _setting("native.max_turns", "--max-turns", "Turns per trajectory.")] = None,
    max_context_tokens: Annotated[
        int | None, _setting("native.max_context_tokens", "--max-context-tokens", "Tokens per trajectory.")
    ] = None,
    max_response_tokens: Annotated[
        int | None, _setting("native.max_response_tokens", "--max-response-tokens", "Tokens per response.")
    ] = None,
    command_timeout_s: Annotated[
        float | None, _setting("native.command_timeout_s", "--command-timeout-s", "Seconds per tool call.")
    ] = None,
    temperature: Annotated[float | None, _setting("native.temperature", "--temperature", "0 is greedy.")] = None,
    top_p: Annotated[float | None, _setting("native.top_p", "--top-p", "Nucleus; train with 1.")] = None,
    seed: Annotated[
        int | None, _setting("native.seed", "--seed", "Every request's seed is made from it, task, sample and turn.")
    ] = None,
    concurrency: Annotated[int | None, _setting("scheduling.concurrency", "--concurrency")] = None,
    starting: Annotated[int | None, _setting("scheduling.starting", "--starting")] = None,
    grading: Annotated[int | None, _setting("scheduling.grading", "--grading")] = None,
    max_attempts: Annotated[int | None, _setting("scheduling.max_attempts", "--max-attempts")] = None,
    max_failure_rate: Annotated[float | None, _setting("scheduling.max_failure_rate", "--max-failure-rate")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file with settings; options override it.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE for any setting, e.g. scheduling.drain_limit_s=60; overrides options."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory of the store. [default: runs/TASKS-AGENT-SANDBOX]")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved settings and the number of tasks; do nothing.")
    ] = False,
) -> None:
    """Run an agent against tasks, each in a sandbox of its own; grade the patches; store the trajectories.

    Without options: the gold patches of all bundled tasks, in bubblewrap. One trajectory is one line of
    OUT/trajectories/*.jsonl, which datasets.load_dataset("OUT") reads; OUT/summary.json has the numbers.
    """
    given = {
        _OPTIONS.get(name, name): _plain(name, value)
        for name, value in context.params.items()
        if name not in _NOT_SETTINGS and value not in (None, [], ())  # not given
    }
    if ids_from is not None:
        from swe_aem.tasks.select import read_ids

        given["ids"] = (*given.get("ids", ()), *read_ids(ids_from))
    if no_limits:
        given = {f"limits.{name}": None for name in Limits.model_fields} | given
    settings = resolve(config, given, assignments or ())
    directory = out or _default_directory(settings)
    if dry_run:
        _print_plan(settings, directory)
    else:
        raise typer.Exit(_run(settings, directory))


def _default_directory(settings: RolloutConfig) -> Path:
    """Where a store goes that was given no place, e.g. runs/micro-gold-bubblewrap."""
    who = settings.policy if settings.agent == NATIVE and settings.scripted else Path(settings.agent).stem
    return Path("runs") / f"{Path(settings.tasks).stem}-{who}-{settings.sandbox}"


def _plain(name: str, value: Any) -> Any:
    """An option's value as the configuration takes it."""
    if name in ("memory", "disk"):
        return _bytes(name, value)
    return tuple(value) if name == "ids" else value


def _bytes(name: str, text: str) -> int:
    """`512m`, `4g` or a number of bytes."""
    units = {"k": 10, "m": 20, "g": 30, "t": 40}
    digits, unit = (text[:-1], text[-1].lower()) if text[-1:].lower() in units else (text, "")
    try:
        return int(float(digits) * (1 << units.get(unit, 0)))
    except ValueError:
        raise UserError(f"--{name} {text}: expected a size such as 512m or 4g") from None


def _print_plan(settings: RolloutConfig, directory: Path) -> None:
    import yaml

    from swe_aem.rollout.run import wanted
    from swe_aem.rollout.wiring import chosen_tasks

    tasks = chosen_tasks(settings)
    typer.echo(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False), nl=False)
    typer.echo(f"# {len(tasks)} tasks, {wanted(settings, tasks)} trajectories, into {directory}")


def _run(settings: RolloutConfig, directory: Path) -> int:
    """Roll out, say how it went, and return the exit code."""
    from swe_aem.rollout.breaker import RunAborted
    from swe_aem.rollout.run import roll_out
    from swe_aem.rollout.wiring import chosen_tasks, open_crew
    from swe_aem.sandbox import open_backend

    tasks = chosen_tasks(settings)
    for note in tasks.notes:
        typer.echo(note, err=True)
    backend = open_backend(settings.sandbox)
    try:
        finished = asyncio.run(roll_out(settings, tasks, directory, backend, open_crew))
    except RunAborted as error:
        typer.echo(f"swe-aem: {error}", err=True)
        return 1
    summary = finished.summary
    typer.echo(
        f"{summary.trajectories} of {summary.wanted} trajectories in {directory}: {summary.resolved} resolved "
        f"({summary.resolved_rate:.1%}), {summary.infrastructure_failures} failures of our side, "
        f"{summary.retries} attempts retried, {summary.wall_s:.0f} s"
    )
    for outcome, count in summary.outcomes.items():
        typer.echo(f"  {outcome:20} {count}")
    if finished.interrupted:
        return 130
    limit = settings.scheduling.max_failure_rate
    if finished.failure_rate > limit:
        typer.echo(f"swe-aem: {finished.failure_rate:.1%} failures of our side, above {limit:.1%}", err=True)
        return 1
    return 0
