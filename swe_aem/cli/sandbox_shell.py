"""`swe-aem sandbox shell`: a prompt in a task's sandbox, and the verdict on what was done there."""

import asyncio
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swe_aem.cli.options import Family, NoLimits, Sandbox, Split, Tasks, limits
from swe_aem.cli.tell import tell
from swe_aem.errors import UserError
from swe_aem.table import table

if TYPE_CHECKING:
    from swe_aem.core import Task, TaskRecord, Verdict
    from swe_aem.grading import CapturedWork, Delta
    from swe_aem.rollout import HumanSession, RolloutConfig
    from swe_aem.tasks import TaskSet

_COMMAND_OUTPUT_BYTES = 1 << 20
_SHOWN = 10


def shell(
    task: Annotated[str, typer.Argument(metavar="TASK", help="The task's id; `swe-aem tasks list` shows them.")],
    tasks: Tasks = "micro",
    split: Split = None,
    family: Family = None,
    sandbox: Sandbox = "bubblewrap",
    command: Annotated[
        str | None,
        typer.Option("--command", "-c", help="Run this command line instead of a prompt; exit with its code."),
    ] = None,
    timeout_s: Annotated[float, typer.Option("--timeout-s", min=1, help="Seconds that --command may take.")] = 600.0,
    start: Annotated[
        str | None, typer.Option("--apply", metavar="FILE|gold", help="Start from a patch, or from the gold patch.")
    ] = None,
    patch: Annotated[Path | None, typer.Option("--patch", help="Write your changes to this file, as a diff.")] = None,
    grade: Annotated[bool, typer.Option("--grade", help="Afterwards, grade your changes like a rollout does.")] = False,
    no_limits: NoLimits = False,
) -> None:
    """Open a shell in a sandbox, as an agent gets it.

    Image, limits, network, prepared repository and history are the same. The sandbox is gone when you leave (exit
    or Ctrl-D). With --grade your changes are captured and graded in a second sandbox, like an agent's patch: exit
    code 0 if they resolve the task, 1 if not.

    Example: swe-aem sandbox shell micro__almanac-comparison-0f71c626 --grade
    """
    from swe_aem.core.settings import check
    from swe_aem.rollout import RolloutConfig
    from swe_aem.tasks import load_tasks

    if command is None and not sys.stdin.isatty():
        raise UserError("a prompt needs a terminal; give a command line with --command instead")
    task_set = load_tasks(tasks, split=split, ids=[task], family=family)
    settings = {"tasks": tasks, "split": split, "family": family, "sandbox": sandbox, "limits": limits(no_limits)}
    config = check(RolloutConfig, settings)
    first = _gold(task_set.get(task)) if start == "gold" else _read(start)
    options = _Options(start=first, command=command, timeout_s=timeout_s, wants_work=grade or patch is not None)
    code, work = asyncio.run(_work(config, task_set, task, options))
    if work is not None:
        if grade:
            tell("grading in a fresh sandbox ...")
        delta, verdict = asyncio.run(_judged(config, task_set, task, work, grade=grade))
        if patch is not None:
            patch.write_text(delta.patch, encoding="utf-8")
            tell(f"{patch}: {len(delta.patch.splitlines())} lines")
        if verdict is not None:
            _show(verdict)
            code = 0 if verdict.resolved else 1
    raise typer.Exit(code)


def _gold(record: "TaskRecord") -> str:
    if not record.key.gold_patch.strip():
        why = "a script: --agent gold runs it" if record.key.has_gold else "not in its data set"
        raise UserError(f"{record.task.id} has no gold patch to apply: its gold is {why}")
    return record.key.gold_patch


def _read(path: str | None) -> str:
    if path is None:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise UserError(f"--apply {path}: {error.strerror}; give a file with a diff, or gold") from None


@dataclass(frozen=True)
class _Options:
    """What is done in the sandbox."""

    start: str
    """Patch that is applied first; empty for none."""
    command: str | None
    """Command line to run; a prompt if None."""
    timeout_s: float
    """Limit of the command line."""
    wants_work: bool
    """Is what was done captured afterwards?"""


async def _work(
    config: "RolloutConfig", task_set: "TaskSet", id: str, options: _Options
) -> "tuple[int, CapturedWork | None]":
    """The exit code of the prompt or command, and what was done if that is wanted."""
    from swe_aem.rollout import human_session
    from swe_aem.sandbox import open_backend

    async with open_backend(config.sandbox) as backend, human_session(config, task_set, id, backend) as place:
        if options.start:
            await _apply(place, options.start)
        if options.command is None:
            _welcome(place.record.task, place.sandbox.id)
            code = await _prompt(backend.shell_command(place.sandbox))
        else:
            result = await place.sandbox.run(
                options.command, timeout_s=options.timeout_s, max_output_bytes=_COMMAND_OUTPUT_BYTES
            )
            typer.echo(result.output, nl=False)
            code = result.exit_code
        return code, await place.work() if options.wants_work else None


async def _judged(
    config: "RolloutConfig", task_set: "TaskSet", id: str, work: "CapturedWork", *, grade: bool
) -> "tuple[Delta, Verdict | None]":
    """What was done, and its verdict if that is wanted."""
    from swe_aem.rollout import judge_human
    from swe_aem.sandbox import open_backend

    async with open_backend(config.sandbox) as backend:
        return await judge_human(config, task_set, id, work, backend, grade=grade)


async def _apply(place: "HumanSession", patch: str) -> None:
    path = f"{place.sandbox.private_dir}/start.patch"
    await place.sandbox.write_file(path, patch.encode("utf-8", "surrogateescape"))
    done = await place.sandbox.run(f"git apply {path}; code=$?; rm {path}; exit $code", timeout_s=60)
    if done.exit_code != 0:
        raise UserError(f"the patch of --apply does not fit; give another one: {done.output.strip()}")


def _welcome(task: "Task", sandbox: str) -> None:
    tell(f"# {task.id}\n\n{task.problem_statement.rstrip()}\n")
    tell(f"{sandbox}: {task.image}, {task.workdir}, network {task.network}; leave with exit or Ctrl-D")


async def _prompt(command: list[str]) -> int:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C belongs to the shell inside
    try:
        return (await asyncio.to_thread(subprocess.run, command, check=False)).returncode
    finally:
        signal.signal(signal.SIGINT, before)


def _show(verdict: "Verdict") -> None:
    said = "resolved" if verdict.resolved else "not resolved"
    if not verdict.patch_applied:
        typer.echo(f"{said}: the patch is empty or does not apply")
        return
    typer.echo(
        f"{said}: {verdict.fail_to_pass_fraction:.0%} of the failing tests pass now, "
        f"{verdict.pass_to_pass_fraction:.0%} of the others still do; {verdict.eval_s:.1f} s"
        + (", ran into the limit" if verdict.timed_out else "")
    )
    bad = {test: status for test, status in verdict.fail_to_pass.items() if status not in ("PASSED", "XFAIL")}
    bad |= {test: s for test, s in verdict.pass_to_pass.items() if s not in ("PASSED", "XFAIL", "SKIPPED")}
    for line in table([(status, test) for test, status in bad.items()][:_SHOWN], indent=2):
        typer.echo(line)
    if len(bad) > _SHOWN:
        typer.echo(f"  and {len(bad) - _SHOWN} more")
    for line in (*verdict.stripped_files, *verdict.integrity):
        typer.echo(f"  {line}")
