"""`swe-aem report`: the page of a training run as one HTML file."""

from pathlib import Path
from typing import Annotated

import typer

from swe_aem.cli.tell import tell

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(epilog="Example: swe-aem report runs/first --out report. `swe-aem view runs/first` shows the same live.")
def report(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of a training run, its --out.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Where report.html goes. [default: DIR]", show_default=False)
    ] = None,
) -> None:
    """Write the page of a training run: did it learn, what did it cost, where did it go wrong.

    report.html is one file that loads nothing from elsewhere. The run may still be running, or may have been killed.
    """
    from swe_aem.view.report import write_report

    made = write_report(directory, out)
    typer.echo(made.sentence)
    for note in made.notes:
        tell(note)
    typer.echo(str(made.page))
