"""`swe-aem audit`: what trajectories did on the way, as labels with evidence, per run and over training steps."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from swe_aem.cli.tell import tell
from swe_aem.errors import UserError

if TYPE_CHECKING:
    from swe_aem.audit import Labelled, Tally

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_TELL_EVERY_S = 10.0


def _complete_label(incomplete: str) -> list[tuple[str, str]]:
    """The labels, with what they mean."""
    from swe_aem.audit import LABELS

    return [(label.name, label.means) for label in LABELS if label.name.startswith(incomplete)]


@app.command(
    epilog="Example: swe-aem audit runs/first --label probes_grader --limit 5. The labels, how they are found and what "
    "they miss: swe-aem docs audit. Exit code 0 whatever is found."
)
def audit(
    directory: Annotated[
        Path, typer.Argument(metavar="STORE", help="Directory of a rollout or of a training run, its --out.")
    ],
    other: Annotated[
        Path | None, typer.Argument(metavar="STORE2", help="A second one, shown beside the first.")
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            "--label",
            metavar="NAME",
            help="List the trajectories with this label and why.",
            autocompletion=_complete_label,
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="With --label: how many trajectories are listed of each store.")
    ] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Also write each trajectory's labels, a JSON line each."),
    ] = None,
) -> None:
    """Label trajectories by what they did on the way: read tests, touched the runner, probed the grader, and more.

    Shows each label's share, the resolved rate with it and without, and for a training run the shares over its steps.
    A label is found by rules, is no accusation and changes no reward: read the evidence before you judge. The store
    may still be written; nothing in it is changed.
    """
    from swe_aem.audit import BY_NAME, report_lines, step_lines, store_of

    if label is not None and label not in BY_NAME:
        from swe_aem.suggest import did_you_mean

        raise UserError(f"--label {label}: no such label{did_you_mean(label, BY_NAME)}; there are {', '.join(BY_NAME)}")
    places = [place for place in (directory, other) if place is not None]
    for place in places:
        store_of(place)
    tallies, listed = [], []
    with ExitStack() as files:
        file = files.enter_context(out.open("w", encoding="utf-8")) if out is not None else None
        for place in places:
            tally, examples = _read(place, label, limit, file)
            tallies.append(tally)
            listed.append(examples)
    reports = [tally.report(place) for tally, place in zip(tallies, places, strict=True)]
    if as_json:
        runs: list[dict[str, Any]] = [one.model_dump(mode="json") for one in reports]
        if label is not None:
            runs = [run | {"listed": [_record(one) for one in some]} for run, some in zip(runs, listed, strict=True)]
        typer.echo(json.dumps({"label": label, "runs": runs}, indent=2))
        return
    if label is None:
        typer.echo("\n".join(report_lines(reports[0], other=reports[1] if len(reports) > 1 else None)))
        for tally, place in zip(tallies, places, strict=True):
            if lines := list(step_lines(tally.columns())):
                typer.echo("\n".join([f"{place}: {lines[0]}", *lines[1:]]))
    else:
        for one, some in zip(reports, listed, strict=True):
            typer.echo("\n".join(_listing(label, one.share(label), one.trajectories, str(one.directory), some)))
    if out is not None:
        tell(f"{sum(tally.trajectories for tally in tallies)} trajectories in {out}")


def _read(place: Path, label: str | None, limit: int, file: TextIO | None) -> "tuple[Tally, list[Labelled]]":
    """Count a store's labels, and keep the first trajectories that have the wanted one."""
    from swe_aem.audit import Tally, audited

    tally, examples, told_s = Tally(), [], time.monotonic()
    try:
        for one in audited(place):
            tally.add(one)
            if label in one.labels and len(examples) < limit:
                examples.append(one)
            if file is not None:
                file.write(json.dumps({"store": str(place), **_record(one)}) + "\n")
            if time.monotonic() - told_s >= _TELL_EVERY_S:
                told_s = time.monotonic()
                tell(f"{place}: {tally.trajectories} trajectories read")
    except KeyboardInterrupt:
        kept = f"; their labels are in {file.name}" if file is not None else ""
        tell(
            f"{place}: stopped after {tally.trajectories} trajectories{kept}. The same command reads all of them again"
        )
        raise
    if not tally.trajectories:
        raise UserError(f"{place} holds no trajectories yet; call again when the first one has ended")
    return tally, examples


def _record(one: "Labelled") -> dict[str, Any]:
    return one.model_dump(mode="json")


def _listing(label: str, share: float, trajectories: int, place: str, listed: "list[Labelled]") -> Iterator[str]:
    from swe_aem.audit import BY_NAME, evidence_lines

    having = round(share * trajectories)
    yield f"{place}: {label} ({BY_NAME[label].means}): {having} of {trajectories} trajectories"
    for one in listed:
        yield from evidence_lines(one, label)
    if having > len(listed):
        yield f"... and {having - len(listed)} more; --limit {having} lists all"
