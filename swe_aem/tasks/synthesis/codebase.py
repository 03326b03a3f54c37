"""`Codebase`: a clean package with its tests, in which bugs are made."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from swe_aem.tasks.synthesis.probe_result import ProbeResult

MICRO_IMAGE = "swe-aem/micro:1"
_GRADABLE = re.compile(r"[!-~]+")
"""Log parsers end a test's name at the first blank, and logs are not always UTF-8."""


@dataclass(frozen=True)
class Codebase:
    """One package of one set."""

    family: str
    """Name of the set: the first part of its ids and repositories."""
    name: str
    """Name of the package; its directory in the set."""
    files: Mapping[str, str]
    """Relative path to text."""
    image: str
    """Image that the tests run in."""
    sources: tuple[str, ...]
    """Files that bugs are made in."""
    tests: tuple[str, ...]
    """Test files that pytest is given, sorted."""
    restored: tuple[str, ...]
    """Files that are restored before an evaluation: the tests, their helpers and data."""
    version: str = "1"
    timeout_s: int = 120
    """Limit of an evaluation. A suite takes seconds; a patch may make it hang."""
    steady: frozenset[str] | None = None
    """Tests that pass every time in the clean package, skipped ones not included. None: all tests."""

    def counts(self, test: str) -> bool:
        """Can the test be part of a verdict?"""
        return (self.steady is None or test in self.steady) and _GRADABLE.fullmatch(test) is not None

    def counted(self, result: ProbeResult) -> ProbeResult:
        """The result without tests that cannot be part of a verdict."""
        return result.restricted(self.counts)


def micro_codebase(name: str, files: Mapping[str, str]) -> Codebase:
    """A package of the layout of `tasks/micro`: modules in a directory of the package's name, tests in `tests`."""
    modules = [path for path in files if path.startswith(f"{name}/") and path.endswith(".py")]
    tests = tuple(sorted(path for path in files if path.startswith("tests/test_") and path.endswith(".py")))
    sources = tuple(path for path in modules if not path.endswith("__init__.py"))
    return Codebase("micro", name, files, MICRO_IMAGE, sources=sources, tests=tests, restored=tests)
