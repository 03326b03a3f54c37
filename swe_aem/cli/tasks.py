"""`swe-aem tasks`: list and show tasks, build or synthesise a set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swe_aem.cli.tasks_build import build
from swe_aem.cli.tasks_check import check
from swe_aem.cli.tasks_select import select
from swe_aem.cli.tasks_select import split as split_set

if TYPE_CHECKING:
    from swe_aem.core import TaskRecord
    from swe_aem.tasks import TaskSet

app = typer.Typer(
    help="List, show, check, choose, build, make tasks.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)

app.command("build")(build)
app.command("check")(check)
app.command("select")(select)
app.command("split")(split_set)

_Tasks = Annotated[
    str, typer.Option("--tasks", help="A bundled set, a directory, a file, or the id of a Hugging Face data set.")
]
_Split = Annotated[str | None, typer.Option("--split", help="One split of the source; all of a directory by default.")]


@app.command("list")
def list_tasks(
    tasks: _Tasks = "micro",
    split: _Split = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Show the first so many tasks.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """List the tasks of a source: id, repository, split, kind."""
    import json

    from swe_aem.tasks import load_tasks

    task_set = load_tasks(tasks, split=split, limit=limit)
    for note in task_set.notes:
        typer.echo(note, err=True)
    rows = [_summary(task_set, record) for record in task_set]
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row))
        return
    _echo_table(["id", "repo", "split", "kind"], [[row[key] or "-" for key in row] for row in rows])


@app.command()
def show(
    task_id: Annotated[str, typer.Argument(metavar="ID", help="The task's id, as `list` shows it.")],
    tasks: _Tasks = "micro",
    split: _Split = None,
    answer: Annotated[
        bool, typer.Option("--answer", help="Show what only the grader knows too: patches, tests, script.")
    ] = False,
) -> None:
    """Show one task as an agent sees it."""
    from swe_aem.tasks import load_tasks

    record = load_tasks(tasks, split=split).get(task_id)
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
        Path | None, typer.Option("--packages", help="Directory of packages; the bundled ones by default.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--package", help="Use this package only; may be given several times.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Decides which bugs are made and how they are split.")] = 0,
    per_package: Annotated[
        int | None, typer.Option("--per-package", min=1, help="Rows per package at most; 63 by default.")
    ] = None,
) -> None:
    """Inject bugs into packages and write those that tests notice as SWE-bench rows."""
    from swe_aem.cli.tasks_progress import progress
    from swe_aem.errors import UserError
    from swe_aem.tasks.load import bundled
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
        typer.Option("--functions", help="Directory of functions; the bundled ones by default."),
    ] = None,
    train: Annotated[int, typer.Option("--train", min=0, help="Rows to train on.")] = 640,
    heldout: Annotated[int, typer.Option("--heldout", min=0, help="Rows to measure on.")] = 192,
    demos: Annotated[int, typer.Option("--demos", min=0, help="Rows to demonstrate for a warm start.")] = 4000,
    seed: Annotated[int, typer.Option("--seed", help="Decides bugs, layouts and splits.")] = 0,
    split: Annotated[
        list[str] | None, typer.Option("--split", help="Write this one only (repeatable): train, heldout, demos.")
    ] = None,
) -> None:
    """Compose small repositories of single functions, each with a bug: tasks that a tiny policy can learn.

    Writes train and heldout. No held-out task has a repository that a row of train or demos has, so all three numbers
    decide what is made, whichever is written.
    """
    from swe_aem.cli.tasks_progress import progress
    from swe_aem.errors import UserError
    from swe_aem.tasks.load import bundled
    from swe_aem.tasks.synthesis.compose import DEMOS, HELDOUT, TRAIN, ComposeConfig
    from swe_aem.tasks.synthesis.compose import compose as make
    from swe_aem.tasks.synthesis.synth import write_rows

    own = bundled("nano")
    source = functions or (own / "functions" if own else None)
    if source is None:
        raise UserError("this installation has no bundled functions; name a directory with --functions")
    splits = tuple(split or (TRAIN, HELDOUT))
    if unknown := set(splits) - {TRAIN, HELDOUT, DEMOS}:
        raise UserError(f"--split {min(unknown)}: there are {TRAIN}, {HELDOUT} and {DEMOS}")
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


def _echo_table(header: list[str], rows: list[list[Any]]) -> None:
    widths = [max(len(str(row[column])) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, *rows]:
        cells = [str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)]
        typer.echo("  ".join(cells).rstrip())


def _echo_fields(fields: dict[str, str]) -> None:
    for name, value in fields.items():
        typer.echo(f"{name}: {value}")


def _echo_block(title: str, text: str) -> None:
    if not text.strip():
        return
    typer.echo(f"\n## {title}\n\n{text.rstrip()}\n")
