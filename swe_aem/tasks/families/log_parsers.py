"""Every log parser that a row may ask for: its name, the test runner whose log it reads, and its reader.

swebench's own parsers are listed by name, because importing its registry takes seconds and listing tasks must not; a
test compares the list with the installed swebench.
"""

from collections.abc import Callable
from typing import Literal

from swe_aem.core.base import Frozen
from swe_aem.errors import GraderError
from swe_aem.tasks.families import log_formats

Runner = Literal["pytest", "django", "sympy", "other"]
"""The program that wrote a log. `swe_aem.grading.integrity` checks the logs of each but `other` for forged results."""


class LogParser(Frozen):
    """One log parser. `runner` has no default: whoever adds a parser states how its logs are checked."""

    name: str
    runner: Runner
    whole_lines: bool = False
    """Must it get long lines whole? So must those that read JSON, in time that grows with the length only."""
    read: Callable[[str], dict[str, str]] | None = None
    """Reads a log to the status of each test; None: swebench has the parser, under this name."""
    short_name: Callable[[str], str] | None = None
    """Turns pytest's id of a test into the parser's name for it; None if they are the same."""


def _swebench(runner: Runner, *names: str) -> list[LogParser]:
    """Parsers that swebench 5.0.2 has."""
    return [LogParser(name=f"parse_log_{name}", runner=runner) for name in names]


_ALL = [
    *_swebench(
        "pytest",
        *("pytest", "pytest_options", "pytest_v2", "astroid", "astropy", "flask", "marshmallow", "matplotlib", "pvlib"),
        *("pydicom", "pylint", "pyvista", "requests", "scikit", "seaborn", "sphinx", "sqlfluff", "xarray"),
    ),
    *_swebench("django", "django"),
    *_swebench("sympy", "sympy"),
    *_swebench(
        "other",
        *("ant", "bpmn_js", "calypso", "carbon", "cargo", "chart_js", "cucumber", "doctest", "eslint", "googletest"),
        *("gotest", "gradle_custom", "grommet", "highlightjs", "immutable_js", "jekyll", "jest", "jest_json", "jq"),
        *("karma", "lighthouse", "marked", "maven", "micropython_test", "minitest", "next", "openlayers", "p5js"),
        *("phpunit", "quarto_cli", "react_pdf", "redis", "rspec_transformed_json", "ruby_unit", "tap"),
        "vitest",
    ),
    LogParser(name="parse_log_prismjs", runner="other", whole_lines=True),
    LogParser(name="r2egym", runner="pytest", read=log_formats.r2egym, short_name=log_formats.r2egym_name),
    LogParser(name="swesmith_pytest", runner="pytest", read=log_formats.swesmith_pytest),
    LogParser(name="swesmith_xdist", runner="pytest", read=log_formats.swesmith_xdist),
    LogParser(name="swesmith_unittest", runner="other", read=log_formats.swesmith_unittest),
    LogParser(name="swesmith_mypy", runner="other", read=log_formats.swesmith_mypy),
    LogParser(name="multi_swe_bench", runner="other", read=log_formats.multi_swe_bench),
]
PARSERS = {parser.name: parser for parser in _ALL}


def log_parser(name: str) -> LogParser:
    """The parser of that name; raises `GraderError` if there is none."""
    if name not in PARSERS:
        raise GraderError(f"there is no log parser {name!r}")
    return PARSERS[name]
