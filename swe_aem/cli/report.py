"""`swe-aem report`: a training run as plots and one HTML page."""

from pathlib import Path
from typing import Annotated

import typer

from swe_aem.cli.tell import tell

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(
    epilog="Example: swe-aem report runs/first --out report. Needs the extra `train` (matplotlib), and no GPU."
)
def report(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of a training run, its --out.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Where report.html and plots/ go. [default: DIR]", show_default=False)
    ] = None,
) -> None:
    """Draw a training run: did it learn, what did it cost, where did it go wrong.

    report.html is one file that loads nothing from elsewhere; plots/*.png are the same plots apart. The run may still
    be running, or may have been killed.
    """
    from swe_aem.view.report import write_report
    from swe_aem.view.training_run import read_training_run

    run = read_training_run(directory)
    made = write_report(run, out or directory)
    typer.echo(made.sentence)
    for note in run.notes:
        tell(note)
    typer.echo(f"{made.page}, {len(made.plots)} plots in {made.page.parent / 'plots'}")
