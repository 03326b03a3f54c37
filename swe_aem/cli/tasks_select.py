"""`swe-aem tasks select` and `split`: from a task set to files of ids that a rollout takes."""

from pathlib import Path
from typing import Annotated

import typer

from swe_aem.cli.load import load_and_tell
from swe_aem.cli.options import Family, Split, Tasks
from swe_aem.cli.tell import tell
from swe_aem.errors import UserError
from swe_aem.table import table

_Out = Annotated[Path, typer.Option("--out", help="File to write: one id per line.")]
_SHOWN = 10


def select(
    out: _Out,
    tasks: Tasks = "micro",
    split: Split = None,
    family: Family = None,
    repo: Annotated[
        list[str] | None, typer.Option("--repo", metavar="GLOB", help="Keep these repositories; repeat for more.")
    ] = None,
    not_repo: Annotated[
        list[str] | None,
        typer.Option("--not-repo", metavar="GLOB", help="Leave these repositories out; repeat for more."),
    ] = None,
    difficulty: Annotated[
        list[str] | None, typer.Option("--difficulty", help="Keep rows of this difficulty; repeat for more.")
    ] = None,
    solve_rate: Annotated[
        str | None,
        typer.Option(
            "--solve-rate", metavar="LOW:HIGH", help="Keep tasks that --run resolved this often, e.g. 0.1:0.9."
        ),
    ] = None,
    run: Annotated[
        Path | None, typer.Option("--run", metavar="STORE", help="Directory of an earlier rollout, for --solve-rate.")
    ] = None,
    only: Annotated[Path | None, typer.Option("--only", help="Keep only the ids of this file.")] = None,
    without: Annotated[
        Path | None, typer.Option("--without", help="Leave out the ids of this file, e.g. a contamination list.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against", metavar="SET", help="Leave out repositories and problem texts of this evaluation set."
        ),
    ] = None,
    against_split: Annotated[str | None, typer.Option("--against-split", help="Split of --against.")] = None,
    texts_only: Annotated[bool, typer.Option("--texts-only", help="With --against: compare only texts.")] = False,
    sample: Annotated[
        int | None, typer.Option("--sample", min=1, help="Keep so many of what is left, chosen at random.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of --sample.")] = 0,
) -> None:
    """Choose tasks and write their ids to a file.

    `swe-aem rollout --ids-from FILE` takes the file. Every condition must hold. What was left out, and why, is
    counted on stderr.

    Example: swe-aem tasks select --tasks rows.jsonl --against SWE-bench/SWE-bench_Verified --out train.txt
    """
    from swe_aem.tasks.select import Selection, ids_text, read_ids
    from swe_aem.tasks.select import select as choose

    if (solve_rate is None) != (run is None):
        raise UserError("--solve-rate LOW:HIGH needs --run STORE, and --run needs --solve-rate; give both or none")
    task_set = load_and_tell(tasks, split=split, family=family)
    left_out = dict.fromkeys(read_ids(without), "in the list to leave out") if without else {}
    if against is not None:
        left_out |= _contaminated(task_set, load_and_tell(against, split=against_split), by_repository=not texts_only)
    selection = Selection(
        repos=tuple(repo or ()),
        not_repos=tuple(not_repo or ()),
        difficulties=tuple(difficulty or ()),
        solve_rate=_range(solve_rate),
        sample=sample,
        seed=seed,
    )
    chosen, reasons = choose(
        task_set,
        selection,
        solve_rates=_solve_rates(run) if run else None,
        only=set(read_ids(only)) if only else None,
        without=left_out,
    )
    for line in table([(count, f"left out: {reason}") for reason, count in reasons.most_common()], align="><"):
        tell(line)
    if not len(chosen):
        raise UserError(f"no task of {tasks} is left; loosen a condition: the counts above say which left out how many")
    out.write_text(ids_text(chosen, f"{len(chosen)} of {len(task_set)} tasks of {tasks}"), encoding="utf-8")
    typer.echo(f"{out}: {len(chosen)} of {len(task_set)} tasks")


def split(
    out: Annotated[Path, typer.Option("--out", help="Directory for train.txt and heldout.txt.")],
    tasks: Tasks = "micro",
    family: Family = None,
    heldout: Annotated[float, typer.Option("--heldout", min=0, max=1, help="Share of tasks to hold out.")] = 0.2,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the choice of repositories.")] = 0,
) -> None:
    """Split a set into train and heldout, by repository.

    Writes two files of ids. No repository is on both sides.

    Example: swe-aem tasks split --tasks rows.jsonl --heldout 0.1 --out splits
    """
    from swe_aem.tasks.select import ids_text, split_by_repository

    task_set = load_and_tell(tasks, family=family)
    out.mkdir(parents=True, exist_ok=True)
    for name, side in zip(("train", "heldout"), split_by_repository(task_set, heldout, seed), strict=True):
        path = out / f"{name}.txt"
        path.write_text(ids_text(side, f"{len(side)} of {len(task_set)} tasks of {tasks}"), encoding="utf-8")
        typer.echo(f"{path}: {len(side)} tasks of {len({record.task.repo for record in side})} repositories")


def _contaminated(tasks, evaluation, *, by_repository: bool) -> dict[str, str]:
    """Ids to leave out, each with the kind of its reason; the evidence for the first ones is printed."""
    from swe_aem.tasks.decontaminate import contaminated

    found = contaminated(tasks, evaluation, by_repository=by_repository)
    for one in [one for one in found if one.kind != "repository"][:_SHOWN]:
        tell(f"{one.task_id}: {one}")
    return {one.task_id: f"contaminated ({one.kind})" for one in found}


def _range(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    low, colon, high = text.partition(":")
    try:
        values = float(low), float(high)
    except ValueError:
        colon = ""
        values = 0.0, 0.0
    if not colon or not 0 <= values[0] <= values[1] <= 1:
        raise UserError(f"--solve-rate {text}: expected LOW:HIGH within 0 and 1, e.g. 0.1:0.9")
    return values


def _solve_rates(directory: Path) -> dict[str, float]:
    from swe_aem.evaluate import read_run

    _, scores = read_run(directory)
    return {task.task_id: task.rate for task in scores.judged}
