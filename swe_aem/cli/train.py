"""`swe-aem train`: reinforcement learning of a policy on live rollouts."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from swe_aem.cli.options import NoLimits
from swe_aem.cli.tell import complain
from swe_aem.runlog import keep_in
from swe_aem.table import table
from swe_aem.train.launch.presses import on_press
from swe_aem.train.launch.ranks import end_with_accelerate
from swe_aem.train.other_work import OtherWork
from swe_aem.train.start import first_process, start_training

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_EXAMPLES = """\b
Examples:
  swe-aem train configs/quickstart.yaml --out runs/quickstart
      the whole loop on two CPU cores, no docker, no GPU: some ten minutes, and a report at the end
  swe-aem train configs/quickstart.yaml --out runs/grpo --set advantage=leave_one_out --set seed=1
      the same without AEM
  swe-aem train configs/qwen3-8b-1node.yaml --launch
      vLLM servers and training processes on the GPUs of this host, started and watched
  swe-aem train configs/quickstart.yaml --cluster auto
      the same training, with trajectories on the hosts of a Ray cluster (swe-aem docs cluster)
  accelerate launch -m swe_aem train CONFIG --out DIR
      several processes: the first one rolls out, all train

\b
Repeat a command to resume after a crash or Ctrl-C: training continues from the last checkpoint, with
the trajectories that are stored. Exit code 1: infrastructure failed for good; 2: wrong input;
130: interrupted. Needs the extra `train`. Every figure and setting: swe-aem docs training
"""


@app.command(epilog=_EXAMPLES)
def train(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="YAML file of settings, e.g. configs/quickstart.yaml.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory of the run. [default: runs/NAME of the file]")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any setting, e.g. advantage.lam=0; repeat for more."),
    ] = None,
    no_limits: NoLimits = False,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="auto|HOST:PORT",
            help="Roll out on the hosts of a Ray cluster: auto for the one that this host belongs to, or HOST:PORT of "
            "its head (rollout.cluster). A rerun may differ.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the resolved settings and what each process would hold; do nothing."),
    ] = False,
    launched: Annotated[
        bool,
        typer.Option(
            "--launch",
            help="Start and watch the vLLM servers and the training processes that the configuration's hardware says, "
            "on this host. --dry-run shows their commands.",
        ),
    ] = False,
    shown: Annotated[
        list[str] | None,
        typer.Option(
            "--show", metavar="NAME", help="Print a resolved setting, e.g. model; repeat for more. Do nothing."
        ),
    ] = None,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Draw report.html and plots at the end.")] = True,
) -> None:
    """Train a policy: roll out, grade, learn, and measure on held-out tasks before and after.

    Writes OUT/metrics.jsonl (a line per step), OUT/summary.json, OUT/policy (the model), OUT/rollouts (every
    trajectory) and OUT/report.html.
    """
    other_work = OtherWork()  # counts while what follows is imported
    from swe_aem.core import Limits
    from swe_aem.train.config import read_config

    unlimited = [f"rollout.limits.{name}=null" for name in Limits.model_fields] if no_limits else []
    given = {} if cluster is None else {"rollout.cluster": cluster}
    settings = read_config(config, [*unlimited, *(assignments or ())], given)
    if shown:
        _print_settings(settings, shown)
        return
    directory = out or Path("runs") / config.stem
    options = [*(["--cluster", cluster] if cluster else []), *(["--no-limits"] if no_limits else [])]
    arguments = _arguments(config, directory, assignments or (), [*options, *([] if report else ["--no-report"])])
    if dry_run:
        _print_plan(settings, directory, arguments)
        return
    keep_in(directory)
    if launched:
        raise typer.Exit(_launch(settings, directory, arguments))
    code = _run(settings, directory, other_work)
    if code == 0 and report and first_process() and (directory / "summary.json").exists():
        _report(directory)
    raise typer.Exit(code)


def _arguments(config: Path, directory: Path, assignments: Sequence[str], options: Sequence[str]) -> list[str]:
    """The command line of a training process that --launch starts."""
    line = ["train", str(config), "--out", str(directory), *options]
    return [*line, *(word for one in assignments for word in ("--set", one))]


def _print_settings(settings: Any, names: Sequence[str]) -> None:
    import json

    from swe_aem.errors import UserError

    for name in names:
        value = settings.model_dump(mode="json")
        for part in name.split("."):
            if not isinstance(value, dict) or part not in value:
                raise UserError(f"--show {name}: the configuration has no such setting")
            value = value[part]
        typer.echo(value if isinstance(value, str) else json.dumps(value))


def _print_plan(settings: Any, directory: Path, arguments: Sequence[str]) -> None:
    import yaml

    from swe_aem.errors import UserError
    from swe_aem.train.launch.gpus import gpus_planned
    from swe_aem.train.launch.run import launch_plan
    from swe_aem.train.planning.plan import plan

    typer.echo(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False), nl=False)
    for line in plan(settings, directory):
        typer.echo(f"# {line}")
    try:
        for line in launch_plan(settings, arguments, gpus_planned(settings)).lines(directory):
            typer.echo(f"# --launch: {line}")
    except UserError as error:
        typer.echo(f"# --launch: not on one host: {error}")


def _launch(settings: Any, directory: Path, arguments: Sequence[str]) -> int:
    from swe_aem.errors import RunAborted
    from swe_aem.train.launch.run import launch

    try:
        return launch(settings, directory, arguments)
    except RunAborted as error:
        complain(error)
        return 1


def _run(settings: Any, directory: Path, other_work: OtherWork) -> int:
    """Train, say how it went, and return the exit code."""
    from swe_aem.errors import ExtensionFailed, SweAemError, UserError

    end_with_accelerate()
    _interrupt_once()
    try:
        summary = start_training(settings, directory, other_work=other_work)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is closed; one that comes now would spoil the exit code
        complain("interrupted; repeat the command to resume, finished trajectories are kept")
        return 130
    except (UserError, ExtensionFailed):
        raise
    except SweAemError as error:
        complain(error)
        return 1
    if summary is not None:
        _show(summary)
        _complain_of_broken_tasks(directory)
    return 0


def _complain_of_broken_tasks(directory: Path) -> None:
    from swe_aem.store import broken_task_lines, read_summary

    rolled_out = read_summary(directory / "rollouts")
    for line in broken_task_lines(rolled_out.broken_tasks if rolled_out else {}):
        complain(line)


def _interrupt_once() -> None:
    """Handle SIGTERM like Ctrl-C: sandboxes are closed, files are whole. A second press ends the closing too."""

    def handle() -> None:
        raise KeyboardInterrupt

    on_press(handle)


def _show(summary: Any) -> None:
    rows = []
    for name, rates in (("before", summary.heldout_before), ("after", summary.heldout_after)):
        for part, one in ((f"{name}, all", rates), *((f"{name}, {part}", one) for part, one in _parts(rates))):
            if one is not None:
                rows.append((f"{part} ({one.tasks})", _rate(one.pass_at_1, one.low, one.high), _greedy(one)))
    for line in table(rows, head=("", "sampled pass@1", "greedy pass@1")):
        typer.echo(line)
    typer.echo(f"{summary.steps} steps in {summary.wall_s:.0f} s")


def _parts(rates: Any) -> list[tuple[str, Any]]:
    return list(rates.parts.items()) if rates is not None else []


def _rate(value: float, low: float, high: float) -> str:
    return f"{value:.1%} ({low:.1%} to {high:.1%})"


def _greedy(one: Any) -> str:
    return "" if one.greedy is None else _rate(one.greedy, one.greedy_low, one.greedy_high)


def _report(directory: Path) -> None:
    from swe_aem.view.report import write_report

    written = write_report(directory)
    typer.echo(f"open {written.page}")
