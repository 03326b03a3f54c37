"""`conclude`: from what an evaluation left, and what was read from its log, to a verdict. A pure function, so that the
verdict of a kept log is reached as the first one was."""

from typing import assert_never

from swe_aem.core import AnswerKey, TestStatus, Verdict
from swe_aem.core.base import Frozen
from swe_aem.grading.eval_types import results_from
from swe_aem.grading.log_file import EvaluationReport, LogReading
from swe_aem.grading.reward_file import Rewards, reward_report


class EvaluationEnd(Frozen):
    """How an evaluation ended: everything but its log that a verdict is concluded from."""

    exit_code: int | None
    """Exit code of the script."""
    timed_out: bool
    killed_for: str | None
    wall_s: float
    starved_s: float
    cpu_s: float | None
    tail: str
    """The last part of the output, where the log is too long to be read."""
    refused: tuple[str, ...] = ()
    """What was left out of the patch, each with the reason."""
    hygiene: tuple[str, ...] = ()
    """Evidence of cheating in the patch itself."""
    rewards: Rewards | None = None
    """The files that tests write a reward into; None where they were not read."""
    unwitnessed: bool = False
    """Does the session of the gold patch leave no record of its tests either? Then the log decides."""


_NO_RECORD = "the tests would pass by the log, but their session has no signed record of its end"


def conclude(key: AnswerKey, end: EvaluationEnd, reading: LogReading | None) -> Verdict:
    """The verdict; `reading` is None where the log was too long to be read."""
    integrity = list(end.hygiene)
    if reading is not None:
        if not reading.begun and not reading.signed and end.killed_for is None:
            integrity.append("the output of the evaluation was emptied while it ran")
        integrity += reading.evidence
        if reading.broke_off and end.unwitnessed:
            integrity += reading.doubts
        elif reading.broke_off and reading.report is not None and reading.report.resolved:
            integrity.append(_NO_RECORD)
    report = _nothing_found(key) if end.timed_out else _results(key, end, reading)
    return Verdict(
        resolved=report.resolved and not integrity,
        official_resolved=_official(end, reading),
        patch_applied=True,
        timed_out=end.timed_out,
        fail_to_pass=report.fail_to_pass,
        pass_to_pass=report.pass_to_pass,
        fail_to_pass_fraction=report.fail_to_pass_fraction,
        pass_to_pass_fraction=report.pass_to_pass_fraction,
        stripped_files=end.refused,
        integrity=tuple(integrity),
        exit_code=end.exit_code,
        test_exit_code=reading.test_exit_code if reading else None,
        eval_s=end.wall_s,
        starved_s=end.starved_s,
        cpu_s=end.cpu_s,
        log_tail=reading.tail if reading else end.tail,
    )


def wants_rewards(key: AnswerKey, reading: LogReading | None) -> bool:
    """Are the results in files that the tests wrote, and did the tests come to their end?"""
    return results_from(key.eval_type) == "reward file" and reading is not None and reading.complete


def _results(key: AnswerKey, end: EvaluationEnd, reading: LogReading | None) -> EvaluationReport:
    """The results that the tests left, in their log or in files of their own."""
    report = reading.report if reading else None
    match results_from(key.eval_type):
        case "log":
            pass
        case "reward file":
            if reading is not None and wants_rewards(key, reading) and end.rewards is not None:
                report = reward_report(key, reading.test_exit_code, end.rewards)
        case unknown:
            assert_never(unknown)
    if report is not None and reading is not None and reading.broke_off and not end.unwitnessed and not report.resolved:
        report = None
    return report if report is not None and report.found else _nothing_found(key)


def _official(end: EvaluationEnd, reading: LogReading | None) -> bool | None:
    """What swebench's parser and rule say of the log alone; its rule resolves nothing by a log without an end."""
    if reading is None:
        return None
    if end.timed_out or not reading.complete:
        return False
    return reading.official.resolved if reading.official is not None else None


def _nothing_found(key: AnswerKey) -> EvaluationReport:
    """The report on a log without results."""
    return EvaluationReport(
        found=False,
        fail_to_pass=dict.fromkeys(key.fail_to_pass, TestStatus.MISSING),
        pass_to_pass=dict.fromkeys(key.pass_to_pass, TestStatus.MISSING),
    )
