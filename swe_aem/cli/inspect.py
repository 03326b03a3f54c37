"""`swe-aem inspect`: look at trajectories in a terminal."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from swe_aem.cli.tell import tell
from swe_aem.core.outcome import Outcome
from swe_aem.errors import UserError

_TELL_BYTES = 200 << 20
"""What takes longer to index than a person waits without being told."""
app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(
    epilog="Example: swe-aem inspect runs/gold --outcome unresolved, then swe-aem inspect runs/gold TASK.0 | less -R. "
    "In a browser: swe-aem view."
)
def inspect(
    directory: Annotated[
        Path, typer.Argument(metavar="STORE", help="Directory of a rollout or of a training run, its --out.")
    ],
    trajectory: Annotated[
        str | None, typer.Argument(metavar="ID", help="A trajectory, TASK.SAMPLE, to read from beginning to end.")
    ] = None,
    outcome: Annotated[
        list[Outcome] | None, typer.Option("--outcome", help="Without ID: only trajectories that ended so; repeatable.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="Without ID: rows, the latest first.")] = 50,
    whole: Annotated[bool, typer.Option("--whole", help="With ID: no text is shortened.")] = False,
    colour: Annotated[
        bool | None, typer.Option("--colour/--no-colour", help="Colours. [default: on a terminal]")
    ] = None,
) -> None:
    """Look at trajectories in a terminal: a table of them, or one with its turns, its patch and its verdict.

    The store may still be written. What policies and repositories wrote cannot control the terminal.
    """
    from swe_aem.audit import store_of

    store = store_of(directory)
    if trajectory is None:
        _list(store, tuple(outcome or ()), limit)
    else:
        _show(store, trajectory, whole=whole, colour=sys.stdout.isatty() if colour is None else colour)


def _list(store: Path, outcomes: tuple[Outcome, ...], limit: int) -> None:
    from swe_aem.view.index import Filter, StoreIndex
    from swe_aem.view.terminal import list_lines

    index = StoreIndex(store)
    left = index.refresh()
    left_bytes = left.bytes_total - left.bytes_done
    if left_bytes > _TELL_BYTES:
        tell(f"{store}: {left_bytes / 1e9:.1f} GB are indexed first, once; Ctrl-C keeps what is done")
    index.build()
    page = index.page(Filter(outcomes=outcomes), size=limit)
    if not page.rows:
        raise UserError(f"{store} holds no trajectory{' that ended so' if outcomes else ''} yet; call again later")
    for line in list_lines(page.rows):
        typer.echo(line)
    if page.total > len(page.rows):
        tell(f"{len(page.rows)} of {page.total} trajectories, the latest first; --limit shows more")


def _show(store: Path, name: str, *, whole: bool, colour: bool) -> None:
    from swe_aem.core import TrajectoryKey
    from swe_aem.store import Store, failures_of
    from swe_aem.suggest import did_you_mean
    from swe_aem.view.terminal import Look, story_lines

    task, _, sample = name.rpartition(".")
    key = TrajectoryKey(task, int(sample)) if task and sample.isascii() and sample.isdigit() else None
    rows = Store(store).index()
    row = rows.get(key) if key is not None else None
    failures = failures_of(store, key) if key is not None else []
    if row is None:
        for failed in failures:  # an attempt may have left nothing else
            typer.echo(f"{failed.time} {failed.said}\n{failed.traceback}")
        if not failures:
            hint = did_you_mean(name, [str(one) for one in rows])
            raise UserError(f"{store} has no trajectory {name}{hint}; `swe-aem inspect {store}` lists them")
        return
    look = Look(colour=colour, most=None if whole else Look().most)
    for line in story_lines(Store(store).load(row), look, failures):
        typer.echo(line, color=colour)
