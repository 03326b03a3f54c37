"""`why`: how a trajectory ended and what it was paid for it, in a few clauses that say where to look."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, assert_never

from swe_aem.core import OUTCOME_TABLE, Outcome, TestStatus, Trajectory, Verdict
from swe_aem.view.story.tests import tested

_NAMED = 3
"""Tests and files that a sentence names."""
_LONGEST = 300
"""Characters of what others wrote that a sentence holds."""


class Clause(NamedTuple):
    """One clause."""

    text: str
    place: str = ""
    """Where in the trajectory to look: `patch`, `verdict`, `evidence`, `attempts`, `t3`; empty for nowhere else."""


def why(trajectory: Trajectory) -> tuple[Clause, ...]:
    """Why it ended as it did, then why its reward is what it is. Its first clause begins with a capital letter."""
    return (*_ended(trajectory), *_paid(trajectory))


def _ended(one: Trajectory) -> Iterator[Clause]:
    verdict, last = one.verdict, f"t{len(one.responses)}" if one.responses else ""
    match one.outcome:
        case None:
            yield Clause("It is not graded yet.")
        case Outcome.RESOLVED | Outcome.UNRESOLVED:
            yield from _judged(verdict)
        case Outcome.EMPTY_PATCH:
            yield Clause("It ended without a change to the repository, so there was nothing to grade.", last)
        case Outcome.TESTS_HANG:
            seconds = f" after {verdict.eval_s:.0f} s" if verdict else ""
            yield Clause(f"The tests do not end on its patch: their time was up{seconds}.", "verdict")
        case Outcome.TURN_LIMIT:
            yield Clause(f"It used all its turns, {len(one.responses):,}, before it submitted.", last)
            yield from _judged(verdict)
        case Outcome.CONTEXT_LIMIT:
            yield Clause(f"Its context was full after {one.tokens:,} tokens, before it submitted.", last)
            yield from _judged(verdict)
        case Outcome.TIME_LIMIT:
            yield Clause(f"Its time was up in turn {len(one.responses)}, before it submitted.", last)
            yield from _judged(verdict)
        case Outcome.MALFORMED:
            yield Clause(f"It was ended for malformed tool calls{_last_problem(one)}.", last)
        case Outcome.INTEGRITY_VIOLATION:
            lines = verdict.integrity if verdict else ()
            more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
            yield Clause(
                f"There is evidence that it tampers with its own grading: {_cut(_first(lines))}{more}.", "evidence"
            )
        case Outcome.SANDBOX_KILLED:
            reason = f": {_cut(one.error)}" if one.error else ""
            yield Clause(f"What it ran killed its sandbox{reason}.", last)
        case Outcome.BROKEN_TASK:
            yield Clause(
                f"The task is broken, so this says nothing about the policy: {_cut(one.error or '?')}.", "attempts"
            )
        case Outcome.INFRASTRUCTURE | Outcome.GRADER_FAILURE:
            what = "The grader" if one.outcome is Outcome.GRADER_FAILURE else "Infrastructure"
            tries = f"in each of {one.attempt + 1} attempts" if one.attempt else "in its only attempt"
            yield Clause(
                f"{what} failed {tries}, which says nothing about the policy: {_cut(one.error or '?')}.", "attempts"
            )
        case unknown:
            assert_never(unknown)


def _judged(verdict: Verdict | None) -> Iterator[Clause]:
    """What grading said, where tests decide."""
    if verdict is None:
        yield Clause("It had changed nothing.", "")
        return
    if verdict.integrity:
        yield Clause(f"There is evidence against its patch: {_cut(_first(verdict.integrity))}.", "evidence")
    if not verdict.patch_applied:
        yield Clause("Its patch does not apply, so no test was run.", "patch")
    elif verdict.cause:
        yield Clause(f"There are no results of tests, and the patch is the cause: {_cut(verdict.cause)}.", "evidence")
    elif verdict.timed_out:
        yield Clause("The tests do not end on its patch.", "verdict")
    elif not verdict.collected:
        code = "" if verdict.test_exit_code is None else f" (exit code {verdict.test_exit_code})"
        yield Clause(f"No listed test left a result{code}: the log says why.", "log")
    else:
        yield from _by_tests(verdict)
    if verdict.stripped_files and not verdict.resolved:
        yield Clause(f"Grading left out {_listed(verdict.stripped_files, 'file', 'files')} of its patch.", "patch")


def _by_tests(verdict: Verdict) -> Iterator[Clause]:
    groups = list(tested(verdict))
    failing = [group for group in groups if not group.passing]
    if not failing:
        fixed, kept = (sum(len(group.names) for group in groups if group.kind == kind) for kind in _KINDS)
        if verdict.resolved:
            also = f", and so do still {kept:,} of {kept:,} PASS_TO_PASS" if kept else ""
            yield Clause(f"It resolves the task: {fixed:,} of {fixed:,} FAIL_TO_PASS tests pass{also}.", "verdict")
        elif not verdict.integrity:
            yield Clause("Every listed test passes, and still the rule of grading says unresolved.", "evidence")
        return
    for group in failing:
        total = sum(len(other.names) for other in groups if other.kind == group.kind)
        what = "still fail" if group.kind == _KINDS[0] else "pass no more"
        missing = sum(status is TestStatus.MISSING for status in group.statuses)
        absent = "" if not missing else f", {'all' if missing == len(group.names) else missing} missing in the log"
        names = _listed(group.names, "", "")
        yield Clause(f"{len(group.names):,} of {total:,} {group.kind} tests {what}{absent}: {names}.", group.place)


_KINDS = ("FAIL_TO_PASS", "PASS_TO_PASS")


def _paid(one: Trajectory) -> Iterator[Clause]:
    if one.outcome is None:
        return
    rule = OUTCOME_TABLE[one.outcome]
    if one.reward is None:
        yield Clause("It has no reward and is in no baseline." if not rule.in_baseline else "It has no reward.")
        return
    terms = ", ".join(f"{_cut(name, 40)} {value:.4g}" for name, value in list(one.reward_terms.items())[:12])
    fixed = " whatever the reward function, by the rule of its outcome" if rule.reward != "graded" else ""
    yield Clause(f"Its reward is {one.reward:.4g}{fixed}{f' (before weights: {terms})' if terms else ''}.", "reward")
    if not rule.trained:
        yield Clause("Its tokens are not trained on where compact filtering is on.")


def _last_problem(one: Trajectory) -> str:
    calls = [call for response in one.responses[-1:] for call in response.tool_calls if call.status == "malformed"]
    return f"; the last: {_cut(calls[-1].observation)}" if calls and calls[-1].observation else ""


def _listed(names: Sequence[str], one: str, several: str) -> str:
    """`2 files: a, b`, the first of many."""
    some = ", ".join(_cut(name, 120) for name in names[:_NAMED])
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    head = f"{len(names):,} {one if len(names) == 1 else several} (" if one else ""
    return f"{head}{some}{more}{')' if one else ''}"


def _first(lines: Sequence[str]) -> str:
    return lines[0] if lines else "?"


def _cut(text: str, most: int = _LONGEST) -> str:
    line = " ".join(text[: 4 * most].split()).rstrip(".")
    return line if len(line) <= most else f"{line[:most]}…"
