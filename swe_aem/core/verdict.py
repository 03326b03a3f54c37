"""`Verdict`: what grading a patch said, test by test."""

from enum import StrEnum

from swe_aem.core.base import Frozen

_STARVED_SHARE = 0.2
"""An evaluation that was starved for more of its time says nothing against what it evaluated."""


class TestStatus(StrEnum):
    """Status of one test, in swebench's words plus `MISSING` for a test that the log does not mention."""

    __test__ = False  # not a test class, whatever pytest makes of its name

    PASSED = "PASSED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    ERROR = "ERROR"
    XFAIL = "XFAIL"
    MISSING = "MISSING"


class Verdict(Frozen):
    """Result of grading one patch. A grader that reached no verdict raises `GraderError` instead of returning one."""

    resolved: bool
    official_resolved: bool | None = None
    """What swebench's parser and rule alone say: False for a patch that is empty or does not apply, None where nothing
    was evaluated for another reason, or they cannot say."""
    patch_applied: bool
    timed_out: bool = False
    """The evaluation script ran into its limit: the tests hang on this patch."""
    fail_to_pass: dict[str, TestStatus] = {}
    pass_to_pass: dict[str, TestStatus] = {}
    fail_to_pass_fraction: float = 0.0
    """Share of FAIL_TO_PASS tests that pass now, 0..1."""
    pass_to_pass_fraction: float = 0.0
    """Share of PASS_TO_PASS tests that still pass, 0..1."""
    stripped_files: tuple[str, ...] = ()
    """Paths that patch hygiene removed from the patch before grading."""
    integrity: tuple[str, ...] = ()
    """Evidence of cheating, one line each; a non-empty tuple makes the outcome an integrity violation."""
    twinned: tuple[str, ...] = ()
    """FAIL_TO_PASS tests, and a few PASS_TO_PASS tests, whose twin, a test that contradicts it, ran too."""
    twin_s: float = 0.0
    """Seconds of the evaluations with twins, their sandboxes included."""
    odd_once: tuple[str, ...] = ()
    """What was odd in one evaluation with twins and not in the next, one line each. It is no evidence and changes
    nothing: a test may be flaky."""
    cause: str = ""
    """Why there are no results although the evaluation was tried more than once: what the patch does to the grading,
    e.g. that its sandbox dies. Empty where the tests decided."""
    exit_code: int | None = None
    """Exit code of the evaluation script."""
    test_exit_code: int | None = None
    """Exit code of the test command in it; None if the script did not come to its end."""
    eval_s: float = 0.0
    """Seconds spent in the evaluation script."""
    starved_s: float = 0.0
    """Seconds of `eval_s` that no limit counts: others had the processors that the evaluation could have used."""
    cpu_s: float | None = None
    """Processor seconds of the evaluation of the tests, those with twins not included; None where nothing counts
    them."""
    wall_s: float = 0.0
    """Seconds from the call of the grader to the verdict, the wait for its sandbox included."""
    log_tail: str = ""
    """The last part of the evaluation log, for a person."""

    @property
    def collected(self) -> bool:
        """Does any listed test have a status other than `MISSING`?"""
        statuses = (*self.fail_to_pass.values(), *self.pass_to_pass.values())
        return any(status is not TestStatus.MISSING for status in statuses)

    @property
    def starved(self) -> bool:
        """Was the evaluation starved for more than a fifth of its time, so that another may end differently?"""
        return self.starved_s > _STARVED_SHARE * self.eval_s
