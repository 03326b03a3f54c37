"""`swe-aem eval`: rates of a run with their uncertainty, and two runs on the same tasks compared."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from swe_aem.cli.tell import tell
from swe_aem.errors import UserError

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(
    epilog="Example: swe-aem eval runs/before runs/after --k 1,4,8 --json > comparison.json. The second run is "
    "compared with the first. Exit code 0 whatever the rates are."
)
def evaluate(
    directory: Annotated[Path, typer.Argument(metavar="STORE", help="Directory of a rollout, its --out.")],
    other: Annotated[
        Path | None, typer.Argument(metavar="STORE2", help="A second one, compared with the first, paired by task.")
    ] = None,
    k: Annotated[str, typer.Option("--k", metavar="K,K", help="The k of pass@k, separated by commas.")] = "1,2,4,8,16",
    seed: Annotated[int, typer.Option("--seed", help="Seed of the paired bootstrap.")] = 0,
    resamples: Annotated[int, typer.Option("--resamples", min=100, help="Resamples of the paired bootstrap.")] = 10_000,
    lock: Annotated[
        Path | None,
        typer.Option(
            "--lock", help="Lock of `swe-aem tasks check --strength`: which tasks are weak. [default: the run's own]"
        ),
    ] = None,
    weak: Annotated[
        float | None,
        typer.Option(
            "--weak",
            metavar="SHARE",
            min=0,
            max=1,
            help="Tests that let a larger share of mutants pass are weak. [default: the run's bound, or 0.2]",
        ),
    ] = None,
    preds: Annotated[
        Path | None, typer.Option("--preds", help="Also write the first run's patches for the official harness.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Report pass@1 with a 95 % interval, unbiased pass@k, outcomes, and what has no verdict.

    Tasks are the unit of every interval. Infrastructure failures are in no rate: they are shown apart, with the
    bounds that they leave open. Where a lock says how strong the tests of the tasks are, pass@1 is also given without
    the weak ones. With two stores: the difference on the tasks that both have verdicts for, with a
    paired bootstrap, and McNemar's exact test where each task has one sample.
    """
    from swe_aem.evaluate import FEW_TASKS, caveats, compare, comparison_lines, evaluate_directory, lines

    ks = ks_of(k)
    directories = [path for path in (directory, other) if path is not None]
    runs = [evaluate_directory(path, ks=ks, lock=lock, weak=weak, tell=tell) for path in directories]
    reports = [one for one, _ in runs]
    comparison, notes = None, []
    if len(runs) == 2:
        comparison = compare(runs[0][1], runs[1][1], resamples=resamples, seed=seed)
        if comparison is None:
            raise UserError(f"{directory} and {other} have no task in common that both have a verdict for")
        notes = caveats(*reports)
        if comparison.tasks < FEW_TASKS:
            notes.append(f"fewer than {FEW_TASKS} tasks: the bootstrap's interval is too narrow")
    if preds is not None:
        _write_predictions(directory, preds)
    if as_json:
        result: dict[str, Any] = {"runs": [one.model_dump(mode="json") | {"complete": one.complete} for one in reports]}
        if comparison is not None:
            result["comparison"] = comparison.model_dump(mode="json") | {"notes": notes}
        typer.echo(json.dumps(result, indent=2))
        return
    for one in reports:
        typer.echo("\n".join(lines(one)))
    if comparison is not None:
        typer.echo("\n".join(comparison_lines(comparison, str(directory), str(other), notes)))


def ks_of(text: str) -> Sequence[int]:
    """The numbers of a `--k`, sorted."""
    try:
        ks = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise UserError(f"--k {text}: expected numbers separated by commas, e.g. 1,4,8") from None
    if ks[0] < 1:
        raise UserError(f"--k {text}: k is at least 1")
    return ks


def _write_predictions(directory: Path, path: Path) -> None:
    from swe_aem.store import Store, predictions

    if not (directory / "trajectories").is_dir():
        raise UserError(f"--preds: {directory} holds verdicts and no patches; export them from what was graded")
    found, left_out = predictions(Store(directory), sample=0)
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    tell(f"{len(found)} predictions in {path}, {left_out} tasks without one left out")
