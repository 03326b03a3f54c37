"""`ProbeResult`: the result of running a package's tests; `FailedTest`: how one of them failed."""

from collections.abc import Callable
from typing import Literal

from swe_aem.core.base import Frozen


class FailedTest(Frozen):
    """How one test failed."""

    test: str
    line: int
    """Line of the test file at which it failed, counted from 1; 0 if the failure was elsewhere."""
    how: Literal["compared", "not_raised", "raised", "asserted"]
    """A comparison was wrong, an expected exception was not raised, another one was, or any other assertion failed."""
    observed: str = ""
    """For `compared` the left value; for `raised` the exception."""
    expected: str = ""
    """For `compared` the right value."""
    parameters: dict[str, str] = {}
    """Names and values (as `repr` gives them) of a parametrised test's arguments."""


class ProbeResult(Frozen):
    """The result of one run of the tests. `collected` is false if a test file could not be imported."""

    collected: bool
    passed: tuple[str, ...]
    failed: tuple[str, ...]
    failures: tuple[FailedTest, ...]
    exhausted: bool
    """A test ran out of memory, which would end differently on another machine."""

    def restricted(self, counts: Callable[[str], bool]) -> "ProbeResult":
        """The result with only the tests for which `counts` is true."""
        return self.model_copy(
            update={
                "passed": tuple(test for test in self.passed if counts(test)),
                "failed": tuple(test for test in self.failed if counts(test)),
                "failures": tuple(failure for failure in self.failures if counts(failure.test)),
            }
        )
