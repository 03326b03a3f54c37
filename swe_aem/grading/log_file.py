"""`LogFile`: the output of an evaluation on this host's disk. `LogReading`: what the process that read it found.

Code under evaluation wrote the log, up to 64 MiB of it. It is copied to disk piece by piece and read in a process with
limits of its own, so that neither its size nor its form costs the orchestrator memory or time.
"""

from pathlib import Path

from pydantic import Field

from swe_aem.core import TestStatus
from swe_aem.core.base import Frozen

LOG_TAIL_CHARS = 4_000
"""How much of a log a verdict keeps."""


class LogFile(Frozen):
    """Where the output of an evaluation lies, and the markers in it."""

    path: Path
    begin: str
    """Printed first of all, by the shell that runs the evaluation."""
    start: str
    """Printed before the output of the tests."""
    end: str
    """Printed after it."""
    code: str
    """Printed before the exit code of the tests."""
    idle: str = ""
    """Printed after them if no session has taken the witness's key."""
    record: Path | None = None
    """The records of the witness, one after the other; None if the command had no witness."""
    record_key: str | None = None
    """The key that records are signed with; None if the command had no witness."""


class EvaluationReport(Frozen):
    """Results of the tests of a task, by the rule of its eval type."""

    found: bool
    """Are there results of tests? Those of a log must agree with the exit code."""
    resolved: bool = False
    fail_to_pass: dict[str, TestStatus] = Field(default_factory=dict)
    pass_to_pass: dict[str, TestStatus] = Field(default_factory=dict)
    fail_to_pass_fraction: float = 0.0
    pass_to_pass_fraction: float = 0.0

    @property
    def statuses(self) -> dict[str, TestStatus]:
        """The status of each test that decides."""
        return {**self.fail_to_pass, **self.pass_to_pass}


class LogReading(Frozen):
    """What a log says."""

    begun: bool
    """Is the first marker there?"""
    complete: bool
    """Is there an output of tests, from its start to its end?"""
    test_exit_code: int | None = None
    """Exit code of the test command."""
    tail: str = ""
    """The last part of the log, for a person."""
    report: EvaluationReport | None = None
    """Results of the tests, which decide; None where the log is not complete, or results are not read from it."""
    signed: bool = False
    """Is `report` made from signed records of the runner? Otherwise it is what swebench's parser reads in the log."""
    official: EvaluationReport | None = None
    """What swebench's parser and rule say of the log. Decides nothing where `signed`. None if the parser was not asked,
    failed, or passed a limit."""
    evidence: tuple[str, ...] = ()
    """Evidence that the results are not those of the runner, one line each."""
    broke_off: bool = False
    """Did a session take the witness's key, and is there no record of a test? `report` is the log's then, and counts
    only where the session of the gold patch leaves no record either."""
    doubts: tuple[str, ...] = ()
    """What else is evidence if the log decides although a session broke off."""

    @property
    def undecided(self) -> bool:
        """Does it depend on the session of the gold patch whether the results of the log count?"""
        found = self.report.statuses.values() if self.broke_off and self.report and self.report.found else ()
        return any(status is not TestStatus.MISSING for status in found)
