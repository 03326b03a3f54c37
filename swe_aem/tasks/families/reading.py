"""`Reading`: the context in which the rows of one source are read; `SkipRow`: raised for rows that are not tasks."""

from dataclasses import dataclass, field

from swe_aem.tasks.families.specs_file import Specs


class SkipRow(Exception):
    """Raised for a row that is intentionally not a task; the message completes "N rows left out: ..."."""


@dataclass(frozen=True)
class Reading:
    """The context of rows: the split they belong to, and the specs file beside them."""

    split: str | None = None
    specs: Specs = field(default_factory=Specs)
    """How to test repositories whose rows lack the commands."""
