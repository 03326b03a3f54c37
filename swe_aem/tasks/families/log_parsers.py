"""Every log parser that a row may ask for: its name, the test runner whose log it reads, and its reader.

Where the runner is pytest or unittest, the results of a task are those of the runner's signed record, not of the log
(`swe_aem.grading.witness`), and `test_name` says how a test of that record is called in FAIL_TO_PASS. Every other
parser says why it has none. A family that is not built in may bring a parser of its own, a `LogParser` that it names as
`package.module:object` or `file.py:object`.

swebench's own parsers are listed by name, because importing its registry takes seconds and listing tasks must not; a
test compares the list with the installed swebench.
"""

from collections.abc import Callable
from typing import Literal, Self

from pydantic import model_validator

from swe_aem.core.base import Frozen
from swe_aem.errors import GraderError, UserError
from swe_aem.extensions import ExtensionPoint
from swe_aem.tasks.families import log_formats, parser_names

Runner = Literal["pytest", "unittest", "sympy", "other"]
"""The program that wrote a log. `swe_aem.grading.integrity` checks the logs of each but `other` for forged results."""


class LogParser(Frozen):
    """One log parser. `runner` has no default: whoever adds a parser states how its logs are checked."""

    name: str
    runner: Runner
    whole_lines: bool = False
    """Must it get long lines whole? So must those that read JSON, in time that grows with the length only."""
    read: Callable[[str], dict[str, str]] | None = None
    """Reads a log to the status of each test; None: swebench has the parser, under this name."""
    test_name: Callable[[str], str | None] | None = None
    """Turns the runner's name of a test, in the witness's record, into the parser's name for it; to None where the
    parser does not read lines with such a name. None: results are read from the log, and `read_because` says why."""
    read_because: str = ""
    """Why the log decides, and no record."""
    statuses: frozenset[str] = frozenset()
    """What it reads by the name of a test: a test that ended otherwise has no result. pytest folds skipped tests."""
    no_tests: frozenset[str] = frozenset()
    """Names in PASS_TO_PASS of real rows that are no tests, but what the parser read in lines of another kind."""

    @model_validator(mode="after")
    def _record_or_reason(self) -> Self:
        if (self.test_name is None) != bool(self.read_because):
            raise ValueError(f"{self.name}: give test_name, or say in read_because why the log decides")
        if self.test_name is not None and self.runner not in ("pytest", "unittest"):
            raise ValueError(f"{self.name}: there is no witness for the runner {self.runner!r}")
        return self


_NO_WITNESS = "the witness knows pytest and unittest, and this runner is neither"
_PROGRESS = frozenset({"[100%]"})
"""`PASSED [100%]`, a line of pytest's progress that was wrapped: PASS_TO_PASS of two rows of SWE-bench has it."""


_ALL_BY_NAME = ("PASSED", "FAILED", "ERROR", "XFAIL")


def _pytest(
    test_name: Callable[[str], str | None], *names: str, statuses: tuple[str, ...] = _ALL_BY_NAME
) -> list[LogParser]:
    """Parsers of pytest's logs that swebench 5.0.2 has."""
    return [
        LogParser(
            name=f"parse_log_{name}",
            runner="pytest",
            test_name=test_name,
            statuses=frozenset(statuses),
            no_tests=_PROGRESS,
        )
        for name in names
    ]


def _others(*names: str) -> list[LogParser]:
    """Parsers of other logs that swebench 5.0.2 has."""
    return [LogParser(name=f"parse_log_{name}", runner="other", read_because=_NO_WITNESS) for name in names]


_ALL = [
    *_pytest(
        parser_names.first_word,
        *("pytest", "astroid", "flask", "marshmallow", "pvlib", "pyvista", "sqlfluff", "xarray"),
    ),
    *_pytest(parser_names.first_word, "seaborn", statuses=("PASSED", "FAILED")),
    *_pytest(parser_names.first_word_of_matplotlib, "matplotlib"),
    *_pytest(parser_names.with_short_option, "pytest_options", "pydicom", "pylint", "requests"),
    # `ERROR id - message` has no name of a test for it.
    *_pytest(
        parser_names.whole_line, "pytest_v2", "astropy", "scikit", "sphinx", statuses=("PASSED", "FAILED", "XFAIL")
    ),
    LogParser(
        name="parse_log_django",
        runner="unittest",
        test_name=parser_names.last_line,
        statuses=frozenset({"PASSED", "FAILED", "ERROR", "SKIPPED"}),
    ),
    LogParser(name="parse_log_sympy", runner="sympy", read_because=_NO_WITNESS),
    *_others(
        *("ant", "bpmn_js", "calypso", "carbon", "cargo", "chart_js", "cucumber", "doctest", "eslint", "googletest"),
        *("gotest", "gradle_custom", "grommet", "highlightjs", "immutable_js", "jekyll", "jest", "jest_json", "jq"),
        *("karma", "lighthouse", "marked", "maven", "micropython_test", "minitest", "next", "openlayers", "p5js"),
        *("phpunit", "quarto_cli", "react_pdf", "redis", "rspec_transformed_json", "ruby_unit", "tap"),
        "vitest",
    ),
    LogParser(name="parse_log_prismjs", runner="other", whole_lines=True, read_because=_NO_WITNESS),
    LogParser(
        name="r2egym",
        runner="pytest",
        read=log_formats.r2egym,
        test_name=log_formats.r2egym_name,
        statuses=frozenset({"PASSED", "FAILED", "ERROR"}),
    ),
    *(
        LogParser(
            name=name,
            runner="pytest",
            read=read,
            test_name=parser_names.one_word,
            statuses=frozenset({"PASSED", "FAILED", "ERROR", "SKIPPED", "XFAIL"}),
        )
        for name, read in (
            ("swesmith_pytest", log_formats.swesmith_pytest),
            ("swesmith_xdist", log_formats.swesmith_xdist),
        )
    ),
    LogParser(
        name="swesmith_unittest",
        runner="unittest",
        read=log_formats.swesmith_unittest,
        test_name=parser_names.last_line,
        statuses=frozenset({"PASSED", "FAILED", "ERROR", "SKIPPED"}),
    ),
    LogParser(
        name="swesmith_mypy",
        runner="pytest",
        read=log_formats.swesmith_mypy,
        test_name=parser_names.last_word,
        statuses=frozenset({"PASSED", "FAILED"}),
    ),
    LogParser(
        name="multi_swe_bench",
        runner="other",
        read=log_formats.multi_swe_bench,
        read_because="it reads the runners of many languages, and a row does not say which",
    ),
]
PARSERS = {parser.name: parser for parser in _ALL}


LOG_PARSERS: ExtensionPoint[LogParser] = ExtensionPoint("log parser", group="swe_aem.log_parsers", builtin={})
"""What `AnswerKey.log_parser` may name beside the parsers of this module. Only families name parsers of their own: rows
cannot, for data must not choose which code is run."""


def is_own_parser(name: str) -> bool:
    """Is it the name of a parser that is not built in?"""
    return name not in PARSERS and (":" in name or name in LOG_PARSERS.names)


def log_parser(name: str) -> LogParser:
    """The parser of that name; raises `GraderError` if there is none, and `UserError` if an own one is no parser."""
    if name in PARSERS:
        return PARSERS[name]
    if not is_own_parser(name):
        raise GraderError(f"there is no log parser {name!r}")
    found = LOG_PARSERS.find(name).value
    if not isinstance(found, LogParser):
        raise UserError(f"log parser {name} is {found!r:.60}: give a swe_aem.LogParser")
    if found.read is None:
        raise UserError(f"log parser {name} needs read: (log) -> status of each test by its name")
    return found
