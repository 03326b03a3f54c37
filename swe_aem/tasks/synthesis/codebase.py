"""`Codebase`: a clean package with its tests, as bugs are made in it."""

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
    """Name of the set, which its ids and repositories begin with."""
    name: str
    """Name of the package; its directory in the set."""
    files: Mapping[str, str]
    """Relative path to text."""
    image: str
    """What the tests run in."""
    sources: tuple[str, ...]
    """Files that bugs are made in."""
    tests: tuple[str, ...]
    """Test files that pytest is given, sorted."""
    restored: tuple[str, ...]
    """Files that are put back before an evaluation: the tests, and what they stand on."""
    version: str = "1"
    timeout_s: int = 120
    """Limit of an evaluation. A suite takes seconds; a patch may make it hang."""
    steady: frozenset[str] | None = None
    """Tests that pass every time in the clean package: not those that are skipped there. All if None."""

    def counts(self, test: str) -> bool:
        """Can a verdict stand on this test?"""
        return (self.steady is None or test in self.steady) and _GRADABLE.fullmatch(test) is not None

    def counted(self, result: ProbeResult) -> ProbeResult:
        """A result without the tests that do not count."""
        return result.restricted(self.counts)


def micro_codebase(name: str, files: Mapping[str, str]) -> Codebase:
    """A package of the layout of `tasks/micro`: modules in a directory of the package's name, tests in `tests`."""
    modules = [path for path in files if path.startswith(f"{name}/") and path.endswith(".py")]
    tests = tuple(sorted(path for path in files if path.startswith("tests/test_") and path.endswith(".py")))
    sources = tuple(path for path in modules if not path.endswith("__init__.py"))
    return Codebase("micro", name, files, MICRO_IMAGE, sources=sources, tests=tests, restored=tests)
