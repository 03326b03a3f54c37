"""Problem statements: they describe a failing test as a user would report the bug, without its place or kind."""

import ast
import hashlib
import re
from collections.abc import Sequence

from swe_aem.core.python_source import parsed_module
from swe_aem.tasks.synthesis.codebase import Codebase
from swe_aem.tasks.synthesis.expectation import Equal, Raises, Truth, expectation
from swe_aem.tasks.synthesis.probe_result import FailedTest
from swe_aem.tasks.synthesis.testfile import FailingTest, definition

_TITLES = ("Wrong result from `{name}`", "`{name}` misbehaves", "{package}: unexpected behaviour of `{name}`")
_OPENINGS = (
    "I use `{package}` and ran into this:",
    "The following does not do what it should:",
    "Minimal example with a fresh checkout of `{package}`:",
    "Found while using `{package}` in another project:",
)
_MORE = ("The same happens elsewhere:", "Related, and probably with the same cause:", "Further examples:")
_CLOSINGS = (
    "Everything else that I tried works.",
    "It should work as described in the docstrings.",
    "I would expect a fix in the package itself; the example is right.",
    "",
)
MAX_EXAMPLES = 2
"""Maximum number of further failing tests in an issue, beyond the first one."""


def write_issue(codebase: Codebase, failures: Sequence[FailedTest]) -> str | None:
    """The problem statement for failing tests of a package; None if no failure can be shown by self-contained code.

    The same input gives the same text: wordings are chosen by its hash.
    """
    told = sorted(failures, key=lambda failure: (_priority(failure), failure.test))
    public = _public_names(codebase)
    reports = [report for failure in told if (report := _report(codebase, failure)) is not None]
    if not reports:
        return None
    first, package = reports[0], codebase.name
    choose = _Chooser(package, *(failure.test + failure.observed for failure in told))
    name = first.called(public) or package
    title = choose.one_of(_TITLES).format(name=name, package=package)
    parts = [title, choose.one_of(_OPENINGS).format(package=package), f"```python\n{first.code}\n```", first.outcome]
    lines = dict.fromkeys(line for report in reports[1:] if (line := report.one_line()) is not None)
    others = list(lines)[:MAX_EXAMPLES]
    if others:
        parts.append(choose.one_of(_MORE) + "\n\n" + "\n".join(f"- {line}" for line in others))
    parts.append(choose.one_of(_CLOSINGS))
    return "\n\n".join(part for part in parts if part) + "\n"


def _priority(failure: FailedTest) -> tuple[int, int]:
    """Sort key of failures: a short wrong value comes first."""
    order = {"compared": 0, "not_raised": 1, "raised": 2, "asserted": 3}
    return order[failure.how], len(failure.observed) + len(failure.expected)


class _Chooser:
    """Picks wordings by the hash of the failures."""

    def __init__(self, *parts: str) -> None:
        self._state = int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest())

    def one_of(self, wordings: Sequence[str]) -> str:
        """One of the wordings."""
        self._state, index = divmod(self._state, len(wordings))
        return wordings[index]


def _public_names(codebase: Codebase) -> set[str]:
    """Names of the functions and methods of a package that a user may call."""
    modules = [parsed_module(codebase.files[path]) for path in codebase.sources]
    functions = [node.name for module in modules for node in ast.walk(module) if isinstance(node, ast.FunctionDef)]
    return {name for name in functions if not name.startswith("_")}


def _report(codebase: Codebase, failure: FailedTest) -> "_Report | None":
    try:
        return _Report(codebase, failure)
    except LookupError:
        return None


class _Report:
    """One failing test: code that shows it, and what was expected and observed in words."""

    def __init__(self, codebase: Codebase, failure: FailedTest) -> None:
        path, name = definition(failure.test)
        self._failure = failure
        self._test = FailingTest(codebase.files[path], name, failure.line, failure.parameters)
        self._expected = expectation(self._test.statement)
        self.called = self._test.called
        self.code, self.outcome = self._tell()

    def _tell(self) -> tuple[str, str]:
        test, failure, expected = self._test, self._failure, self._expected
        if isinstance(expected, Raises):
            demand = f"Expected: `{expected.exception}` is raised{_with_message(expected)}."
            return self._example(*expected.shown), f"{demand}\n\nObserved: {self._observed_instead()}."
        if failure.how == "raised":
            return self._tell_exception()
        if failure.how == "compared":
            wanted, observed = self._values()
            shown = self._sides(expected)[0] if isinstance(expected, Equal) else test.statement
            return self._example(shown), f"Expected:\n\n```\n{wanted}\n```\n\nObserved:\n\n```\n{observed}\n```"
        if isinstance(expected, Equal):
            left, right = self._sides(expected)
            demand = f"the value is `{self._written(right)}`"
            return self._example(left), f"Expected: {demand}.\n\nObserved: it is another one."
        if isinstance(expected, Truth):
            values = ("a true", "a false") if expected.wanted else ("a false", "a true")
            outcome = f"Expected: {values[0]} value.\n\nObserved: {values[1]} one."
            return self._example(expected.condition), outcome
        return self._example(test.statement), "Expected: no exception.\n\nObserved: an assertion fails."

    def _tell_exception(self) -> tuple[str, str]:
        """Describe an exception that should not have been raised."""
        shown, demand = self._test.statement, "no exception"
        if isinstance(self._expected, Equal):
            shown, right = self._sides(self._expected)
            demand = f"the value is `{self._written(right)}`"
        elif isinstance(self._expected, Truth) and isinstance(shown, ast.Assert):
            demand = "the assertion holds"
        elif isinstance(self._expected, Truth):
            shown, demand = self._expected.condition, f"a {str(self._expected.wanted).lower()} value"
        return self._example(shown), f"Expected: {demand}.\n\nObserved: `{self._failure.observed}` is raised."

    def _example(self, *last: ast.AST) -> str:
        return self._test.example(*(self._test.snippet(node) for node in last))

    def _sides(self, equation: Equal) -> tuple[ast.expr, ast.expr]:
        """The computed and the expected side of an equation, which may be written in either order."""
        turned = self._is_given(equation.left) and not self._is_given(equation.right)
        return (equation.right, equation.left) if turned else (equation.left, equation.right)

    def _written(self, side: ast.expr) -> str:
        """The expected value on one line; raises `LookupError` if a reader could not know it."""
        if isinstance(side, ast.Name) and side.id in self._failure.parameters:
            return self._failure.parameters[side.id]
        if self._test.depends(side):
            raise LookupError("the expected value is not in the example")
        return _one_line(self._test.snippet(side).text)

    def _is_given(self, side: ast.expr) -> bool:
        """Is it a literal value, rather than a computed one?"""
        if isinstance(side, ast.Name):
            return side.id in self._failure.parameters or side.id.startswith(("expect", "want", "correct"))
        try:
            ast.literal_eval(side)
        except (ValueError, TypeError):
            return False
        return True

    def _values(self) -> tuple[str, str]:
        """Expected and observed value of a comparison."""
        failure, expected = self._failure, self._expected
        if isinstance(expected, Equal) and self._sides(expected)[0] is expected.right:
            return failure.observed, failure.expected
        return failure.expected, failure.observed

    def _observed_instead(self) -> str:
        if self._failure.how == "not_raised":
            return "no exception is raised"
        if self._failure.how == "raised":
            return f"`{self._failure.observed}` is raised instead"
        return "the exception comes with another message"

    def one_line(self) -> str | None:
        """The failure on one line, if the test is a single equation that was wrong and short enough."""
        if not isinstance(self._expected, Equal) or self._failure.how != "compared" or self._test.before:
            return None
        shown = self._sides(self._expected)[0]
        if self._test.depends(shown):
            return None
        wanted, observed = self._values()
        line = f"`{_one_line(self._test.snippet(shown).text)}` gives `{observed}`, expected `{wanted}`"
        return line if len(line) <= 200 and "for " not in line else None


def _with_message(raises: Raises) -> str:
    """What the exception's message should contain, if the test says so."""
    return "" if raises.pattern is None else f" with a message like `{_unescape(raises.pattern)}`"


def _unescape(pattern: str) -> str:
    """A simple regular expression as the text that it stands for."""
    return re.sub(r"\\(.)", r"\1", pattern)


def _one_line(code: str) -> str:
    return " ".join(code.split())
