"""`swe-aem tasks`: list, show, check, choose, build and synthesise tasks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swe_aem.cli.load import load_and_tell
from swe_aem.cli.options import Family, Json, Limit, Split, Tasks
from swe_aem.cli.tasks_build import build
from swe_aem.cli.tasks_check import check
from swe_aem.cli.tasks_select import select
from swe_aem.cli.tasks_select import split as split_set
from swe_aem.table import table

if TYPE_CHECKING:
    from swe_aem.core import TaskRecord
    from swe_aem.tasks import TaskSet

app = typer.Typer(
    help="List, show, check, choose, build and synthesise tasks.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)

_SPLITS = ("train", "heldout", "demos")

app.command("build")(build)
app.command("check")(check)
app.command("select")(select)
app.command("split")(split_set)


@app.command("list")
def list_tasks(
    tasks: Tasks = "micro",
    split: Split = None,
    family: Family = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """List the tasks of a set: id, repository, split, kind of bug.

    Rows that cannot be tasks are counted on stderr; --json lists them after the tasks, each with its reason.

    Example: swe-aem tasks list --tasks micro --split heldout --limit 5
    """
    import json

    task_set = load_and_tell(tasks, split=split, limit=limit, family=family)
    rows = [_summary(task_set, record) for record in task_set]
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row))
        for row in task_set.left_out:
            typer.echo(json.dumps({"left_out": row.name, "where": row.where, "reason": row.reason}))
        return
    for line in table([[value or "-" for value in row.values()] for row in rows], head=("id", "repo", "split", "kind")):
        typer.echo(line)


@app.command()
def show(
    task_id: Annotated[str, typer.Argument(metavar="ID", help="The task's id, as `swe-aem tasks list` shows it.")],
    tasks: Tasks = "micro",
    split: Split = None,
    family: Family = None,
    answer: Annotated[
        bool, typer.Option("--answer", help="Show also what agents never see: patches, tests, script.")
    ] = False,
) -> None:
    """Show one task as an agent sees it.

    Example: swe-aem tasks show micro__almanac-comparison-0f71c626
    """
    from swe_aem.tasks import load_tasks

    record = load_tasks(tasks, split=split, family=family).get(task_id)
    task, key = record.task, record.key
    fields = {"repo": task.repo, "base commit": task.base_commit, "image": task.image, "workdir": task.workdir}
    typer.echo(f"# {task.id}")
    _echo_fields({**fields, "network": task.network})
    _echo_block("problem statement", task.problem_statement)
    if answer:
        _echo_fields({"log parser": key.log_parser, "eval type": key.eval_type, "timeout": f"{key.timeout_s:g} s"})
        _echo_block("gold patch", key.gold_patch)
        _echo_block("gold command", key.gold_command)
        _echo_block("setup patch", key.setup_patch)
        _echo_block("hidden from agents", "\n".join(key.hidden))
        _echo_block("test patch", key.test_patch)
        _echo_block("fail to pass", "\n".join(key.fail_to_pass))
        _echo_block("pass to pass", "\n".join(key.pass_to_pass))
        _echo_block("evaluation script", key.eval_script)


@app.command()
def synth(
    out: Annotated[Path, typer.Option("--out", help="Directory for train.jsonl and heldout.jsonl.")],
    packages: Annotated[
        Path | None, typer.Option("--packages", help="Directory of packages. [default: the bundled ones]")
    ] = None,
    only: Annotated[list[str] | None, typer.Option("--package", help="Only this package; repeat for more.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Decides which bugs are made and how they are split.")] = 0,
    per_package: Annotated[
        int | None, typer.Option("--per-package", min=1, help="Rows per package at most. [default: 63]")
    ] = None,
) -> None:
    """Inject bugs into packages; write rows like SWE-bench's.

    Only bugs that tests notice are written.

    Example: swe-aem tasks synth --packages my-packages --out my-set
    """
    from swe_aem.cli.tasks_progress import progress
    from swe_aem.errors import UserError
    from swe_aem.tasks import bundled
    from swe_aem.tasks.synthesis.synth import SynthConfig, synthesize, write_rows

    own = bundled("micro")
    source = packages or (own / "packages" if own else None)
    if source is None:
        raise UserError("this installation has no bundled packages; name a directory with --packages")
    sizes = {} if per_package is None else {"per_package": per_package}
    config = SynthConfig(packages=source, seed=seed, only=tuple(only or ()), **sizes)
    for split, rows in synthesize(config, progress()).items():
        path = out / f"{split}.jsonl"
        write_rows(path, rows)
        typer.echo(f"{path}: {len(rows)} tasks")


@app.command()
def compose(
    out: Annotated[Path, typer.Option("--out", help="Directory for one file per split.")],
    functions: Annotated[
        Path | None,
        typer.Option("--functions", help="Directory of functions. [default: the bundled ones]"),
    ] = None,
    train: Annotated[int, typer.Option("--train", min=0, help="Rows to train on.")] = 640,
    heldout: Annotated[int, typer.Option("--heldout", min=0, help="Rows to measure on.")] = 192,
    demos: Annotated[int, typer.Option("--demos", min=0, help="Rows to demonstrate for a warm start.")] = 4000,
    seed: Annotated[int, typer.Option("--seed", help="Decides bugs, layouts and splits.")] = 0,
    split: Annotated[
        list[str] | None,
        typer.Option(
            "--split",
            metavar="train|heldout|demos",
            help="Only this split; repeat for more. [default: train and heldout]",
            autocompletion=lambda incomplete: [one for one in _SPLITS if one.startswith(incomplete)],
        ),
    ] = None,
) -> None:
    """Compose small tasks that a tiny policy can learn.

    Each is a repository of single functions, one with a bug. No held-out task has a repository that a row of train
    or demos has, so all three numbers decide what is made, whichever is written.

    Example: swe-aem tasks compose --out my-set --train 64 --heldout 16
    """
    from swe_aem.cli.tasks_progress import progress
    from swe_aem.errors import UserError
    from swe_aem.tasks import bundled
    from swe_aem.tasks.synthesis.compose import HELDOUT, TRAIN, ComposeConfig
    from swe_aem.tasks.synthesis.compose import compose as make
    from swe_aem.tasks.synthesis.synth import write_rows

    own = bundled("nano")
    source = functions or (own / "functions" if own else None)
    if source is None:
        raise UserError("this installation has no bundled functions; name a directory with --functions")
    splits = tuple(split or (TRAIN, HELDOUT))
    if unknown := set(splits) - set(_SPLITS):
        raise UserError(f"--split {min(unknown)}: there are {', '.join(_SPLITS)}")
    show = progress()
    config = ComposeConfig(functions=source, train=train, heldout=heldout, demos=demos, seed=seed, splits=splits)
    made = make(config, lambda done, wanted: show("rows", done, wanted))
    for name, rows in made.items():
        path = out / f"{name}.jsonl"
        write_rows(path, rows)
        typer.echo(f"{path}: {len(rows)} tasks")


def _summary(task_set: "TaskSet", record: "TaskRecord") -> dict[str, str | None]:
    kind = task_set.labels.get(record.task.id, {}).get("mutation_kind")
    return {"id": record.task.id, "repo": record.task.repo, "split": record.split, "kind": kind}


def _echo_fields(fields: dict[str, str]) -> None:
    for name, value in fields.items():
        typer.echo(f"{name}: {value}")


def _echo_block(title: str, text: str) -> None:
    if not text.strip():
        return
    typer.echo(f"\n## {title}\n\n{text.rstrip()}\n")
