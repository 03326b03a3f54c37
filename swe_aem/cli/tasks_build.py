"""`swe-aem tasks build`: a set from its recipes."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swe_aem.cli.options import Sandbox
from swe_aem.cli.tell import complain
from swe_aem.table import table

if TYPE_CHECKING:
    from swe_aem.tasks.pypi import BuildConfig, Built

_SHOWN = 5


def build(
    name: Annotated[str, typer.Argument(metavar="SET", help="pypi, or a directory with recipes/*.yaml.")],
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Only this package; repeat for more. Needs --out.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory for the set. [default: where `--tasks SET` finds it]")
    ] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", min=1, help="Sandboxes at once. [default: the cores]")] = None,
    sandbox: Sandbox = "bubblewrap",
    index_url: Annotated[
        str | None, typer.Option("--index-url", help="Package index. [default: $PIP_INDEX_URL, else PyPI]")
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Write the rows' hashes beside the recipes; otherwise they are compared.")
    ] = False,
) -> None:
    """Build a set from real packages.

    Downloads them, checks them, injects bugs, and keeps those that the tests notice. Needs the docker engine and
    the image swe-aem/micro:1. Third-party code runs in sandboxes only. An interrupted build resumes where it was.
    Exit code 1 if the rows are not those that were recorded.

    Example: swe-aem tasks build pypi && swe-aem rollout --tasks pypi --agent gold --out runs/gold
    """
    from swe_aem.errors import UserError
    from swe_aem.tasks import bundled
    from swe_aem.tasks.built import is_recipe_set
    from swe_aem.tasks.pypi import BuildConfig
    from swe_aem.tasks.pypi.index import default_index

    directory = Path(name).expanduser() if "/" in name or Path(name).is_dir() else bundled(name)
    if directory is None or not is_recipe_set(directory):
        raise UserError(f"{name}: no set with recipes; `swe-aem tasks build pypi` builds the bundled one")
    sizes = {} if jobs is None else {"jobs": jobs}
    config = BuildConfig(
        directory=directory, index=index_url or default_index(), out=out, only=tuple(only or ()), **sizes
    )
    try:
        built = asyncio.run(_built(config, sandbox))
    except KeyboardInterrupt:
        complain("interrupted; finished packages are kept, repeat the command to resume")
        raise typer.Exit(130) from None
    _show(built)
    raise typer.Exit(0 if _compare(built, directory, record=record) else 1)


async def _built(config: "BuildConfig", sandbox: str) -> "Built":
    from swe_aem.cli.tasks_progress import progress
    from swe_aem.sandbox import open_backend
    from swe_aem.tasks.pypi import build as run_build

    async with open_backend(sandbox) as backend:
        return await run_build(config, backend, progress())


def _show(built: "Built") -> None:
    rows = [
        (name, sum(counts.values()), ", ".join(f"{split} {count}" for split, count in counts.items()))
        for name, counts in built.rows.items()
    ]
    for line in table(rows, align="<><"):
        typer.echo(line)
    typer.echo(f"{len(built.digests)} tasks in {built.place}")


def _compare(built: "Built", directory: Path, *, record: bool) -> bool:
    """True if the rows are those that are recorded beside the recipes."""
    from swe_aem.tasks.pypi.build import ROWS_DIGESTS

    path = directory / ROWS_DIGESTS
    if record:
        path.write_text("".join(f"{digest}  {id}\n" for id, digest in sorted(built.digests.items())))
        typer.echo(f"{path}: written")
        return True
    if not path.is_file():
        return True
    lines = (line.split("  ", 1) for line in path.read_text().splitlines())
    known = {id: digest for digest, id in lines if id.rpartition("-")[0].rpartition("-")[0] in _prefixes(built)}
    changed = sorted(id for id in {*known, *built.digests} if known.get(id) != built.digests.get(id))
    if changed:
        shown = ", ".join(changed[:_SHOWN]) + (f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else "")
        complain(f"{len(changed)} rows are not as {path} records them: {shown}")
        return False
    typer.echo(f"All rows are as {path} records them.", err=sys.stderr.isatty())
    return True


def _prefixes(built: "Built") -> set[str]:
    return {f"{built.name}__{name}" for name in built.rows}
