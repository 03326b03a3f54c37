"""`Result`: what one run measured, where and when. Results are files by the name of the run, in version control."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from swe_aem.core.base import Frozen
from swe_aem.store.files import replace

Source = Literal["measured", "recorded by hand from the page"]
_NOT_RUN = "not_run.json"


class Result(Frozen):
    """What one run measured."""

    run: str
    source: Source = "measured"
    command: str
    date: str
    """Date and time in UTC; of a result recorded by hand, the day on which it was."""
    commit: str
    """For a result recorded by hand, the commit whose page had the figures."""
    host: dict[str, Any] | None = None
    machine: str | None = None
    """The machine in words, where it was recorded by hand."""
    load_before: float | None = None
    load_after: float | None = None
    """Load averages of a minute. The one after is the benchmark's own, too."""
    others_before: float | None = None
    others_after: float | None = None
    """CPUs that other work kept busy just before, and just after the benchmark had ended."""
    quiet: bool | None
    """Whether other work left the cores alone; None where nobody wrote it down."""
    quick: bool = False
    wall_s: float | None = None
    exit_code: int = 0
    """How the benchmark ended; figures are kept also where it wrote them and did not end with 0."""
    versions: dict[str, str] = {}
    """Versions of the peers, and of what else a figure depends on."""
    figures: Any
    """What the benchmark wrote."""


def is_quiet(cores: int, load_before: float, *others: float) -> bool:
    """Whether other work left the cores alone: a load average of at most the cores, and at most half of them busy just
    before and just after."""
    return load_before <= cores and max(others) <= cores / 2


class Results:
    """The results of a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def get(self, run: str) -> Result | None:
        """The result of a run; None if there is none."""
        path = self._path(run)
        return Result.model_validate_json(path.read_text(encoding="utf-8")) if path.exists() else None

    def names(self) -> set[str]:
        """Runs that have a result."""
        return {path.stem for path in self.directory.glob("*.json") if "." not in path.stem and path.name != _NOT_RUN}

    def put(self, result: Result, *, over_quiet: bool = False) -> Path:
        """Keep a result in place of the one before. One that is not quiet does not replace a quiet one, unless
        `over_quiet`: it is kept beside it, as `RUN.busy.json`. Returns the file."""
        before = self.get(result.run)
        aside = before is not None and before.quiet and not result.quiet and not over_quiet
        path = self._path(f"{result.run}.busy" if aside else result.run)
        self.directory.mkdir(parents=True, exist_ok=True)
        replace(path, result.model_dump_json(indent=1, exclude_defaults=True) + "\n")
        if not aside:
            self._path(f"{result.run}.busy").unlink(missing_ok=True)
            self.not_run({}, measured={result.run})
        return path

    def why_not(self) -> dict[str, str]:
        """Why runs were not made, by their names, as of the last time that they were asked for."""
        path = self.directory / _NOT_RUN
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def not_run(self, reasons: dict[str, str], *, measured: Collection[str] = ()) -> None:
        """Keep why runs were not made; nothing any more of those that are measured."""
        before = self.why_not()
        now = {run: why for run, why in sorted((before | reasons).items()) if run not in measured}
        if now != before:
            self.directory.mkdir(parents=True, exist_ok=True)
            replace(self.directory / _NOT_RUN, json.dumps(now, indent=1) + "\n")

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.json"
