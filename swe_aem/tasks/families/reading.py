"""`Reading`: what readers of rows share while one source is read."""

from dataclasses import dataclass, field

from swe_aem.tasks.families.specs_file import Specs


class SkipRow(Exception):
    """A row that its data set has on purpose but that is no task; says why, in words that fit behind "left out"."""


@dataclass
class Reading:
    """The circumstances under which rows are read, and what was noted on the way."""

    split: str | None = None
    specs: Specs = field(default_factory=Specs)
    """How to test repositories whose rows do not say so."""
