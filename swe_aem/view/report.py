"""`write_report`: the page about a training run as one file, and the sentence that says what it amounts to."""

from pathlib import Path

from swe_aem.core.base import Frozen
from swe_aem.view.export import write_page
from swe_aem.view.found import Kind, Run
from swe_aem.view.pages import PAGES
from swe_aem.view.site import Site
from swe_aem.view.training_run import read_training_run
from swe_aem.view.training_words import sentence

NAME = "report.html"


class Written(Frozen):
    """What `write_report` made."""

    page: Path
    sentence: str
    """Whether the policy learned, in one sentence."""
    notes: tuple[str, ...]
    """What a reader of the numbers should know, one sentence each."""


def write_report(directory: Path, out: Path | None = None) -> Written:
    """Write the page of the training run in `directory` as `report.html` into `out`, by default there. Raises
    `UserError` for a directory that is no training run or is damaged, and for a place that cannot be written."""
    run = read_training_run(directory)
    page = (out or directory) / NAME
    site = Site([directory], PAGES)
    try:
        name = directory.resolve().name or "run"
        write_page(site, Run(name=name, directory=directory, kind=Kind.TRAINING), page)
    finally:
        site.close()
    return Written(page=page, sentence=sentence(run), notes=run.notes)
