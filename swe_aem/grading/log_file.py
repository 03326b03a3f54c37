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
    record: Path | None = None
    """The file of pytest's record; None if the command had no plugin, or the sandbox has no such file."""
    record_key: str | None = None
    """The key that the record is signed with; None if the command had no plugin."""


class EvaluationReport(Frozen):
    """Results of the tests, read from the output of a test command."""

    found: bool
    """Did the log show test results that agree with the exit code?"""
    resolved: bool = False
    fail_to_pass: dict[str, TestStatus] = Field(default_factory=dict)
    pass_to_pass: dict[str, TestStatus] = Field(default_factory=dict)
    fail_to_pass_fraction: float = 0.0
    pass_to_pass_fraction: float = 0.0


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
    """Results of the tests; None where the log is not complete, or results are not read from it."""
    evidence: tuple[str, ...] = ()
    """Evidence that the results are not those of the runner, one line each."""
