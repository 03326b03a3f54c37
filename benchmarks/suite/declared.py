"""What a benchmark declares: its runs, what they need, their peers and goals, and its section of the page.

`NAME.md` beside `NAME.py` begins with these declarations in YAML, between two lines of `---`. What follows is a
template of Jinja, in which no figure stands that was measured: figures come from the results on file.
"""

import shlex
from pathlib import Path

import yaml
from pydantic import Field

from swe_aem.core.base import Frozen

FRAME = "all.md"
"""What stands around the sections of the page."""
_FENCE = "---\n"


class Goal(Frozen):
    """What a figure of a run should be."""

    what: str
    figure: str
    """Expression of Jinja over `f`, the figures of the run."""
    at_least: float | None = None
    at_most: float | None = None
    digits: int = 2
    unit: str = ""

    def is_met(self, value: float) -> bool:
        """Whether a measured value is as good as the goal."""
        return not (
            (self.at_least is not None and value < self.at_least) or (self.at_most is not None and value > self.at_most)
        )

    @property
    def words(self) -> str:
        """The goal as the page says it."""
        bounds = (("at least", self.at_least), ("at most", self.at_most))
        return ", ".join(f"{word} {self._shown(f'{bound:g}')}" for word, bound in bounds if bound is not None)

    def shown(self, value: float) -> str:
        """A measured value with its unit."""
        return self._shown(f"{value:,.{self.digits}f}")

    def _shown(self, number: str) -> str:
        return f"{number}{self.unit}" if self.unit in ("", "x") else f"{number} {self.unit}"


class Run(Frozen):
    """One command that measures, with `--json FILE` added to it."""

    arguments: str = ""
    quick: str = "--quick"
    """Arguments in place of `arguments`, which give rough figures soon."""
    minutes: float
    needs: tuple[str, ...] = ()
    """`suite.needs` says which there are."""
    virtual: bool = False
    """The figures are of a virtual clock, so that the load of the machine changes none."""
    by_hand: str | None = None
    """Why only people make this run."""
    peers: tuple[str, ...] = ()
    """Distributions that are measured beside swe-aem; their versions are kept with the result."""
    goals: tuple[Goal, ...] = ()
    script: str = ""
    """File in the folder of the declaration (default: of the same name)."""

    def words(self, *, quick: bool = False) -> list[str]:
        """Script and arguments, as words of a command line."""
        return [f"benchmarks/{self.script}", *shlex.split(self.quick if quick else self.arguments)]


class Benchmark(Frozen):
    """One declaration and its section of the page."""

    name: str
    order: int
    """Place of its section on the page."""
    runs: dict[str, Run] = Field(min_length=1)
    """By the name under which a result is kept."""
    section: str
    """Template of Jinja."""


def read_benchmark(path: Path) -> Benchmark:
    """Read one `NAME.md`. Raises `ValueError` naming the file where it does not begin with declarations."""
    _, head, section = [*path.read_text(encoding="utf-8").split(_FENCE, 2), "", ""][:3]
    if not section:
        raise ValueError(f"{path}: begin it with declarations between two lines of `---`")
    declared = yaml.safe_load(head)
    for run in declared["runs"].values():
        run.setdefault("script", f"{path.stem}.py")
    return Benchmark(name=path.stem, section=section.strip() + "\n", **declared)


def read_benchmarks(folder: Path) -> list[Benchmark]:
    """Every benchmark of a folder, in the order of the page. Raises `ValueError` where two runs have one name."""
    pages = [path for path in folder.glob("*.md") if path.name != FRAME and path.with_suffix(".py").exists()]
    found = [read_benchmark(path) for path in pages]
    names = [name for benchmark in found for name in benchmark.runs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"declared twice: {', '.join(sorted(twice))}")
    return sorted(found, key=lambda benchmark: (benchmark.order, benchmark.name))
