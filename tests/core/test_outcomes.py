"""From stop and verdict to outcome and reward."""

import pytest

from swe_aem.core import OUTCOME_TABLE, Outcome, Stop, Verdict
from swe_aem.core.outcomes import graded, is_resolved, needs_grading, outcome_of
from swe_aem.reward import Rewards
from swe_aem.testing.builders import make_trajectory

RESOLVED = Verdict(resolved=True, patch_applied=True)
UNRESOLVED = Verdict(resolved=False, patch_applied=True)
HANG = Verdict(resolved=False, patch_applied=True, timed_out=True)
CHEAT = Verdict(resolved=True, patch_applied=True, integrity=("conftest.py: hooks the test run",))

CASES = [
    (Stop.SUBMITTED, RESOLVED, Outcome.RESOLVED, 1.0),
    (Stop.SUBMITTED, UNRESOLVED, Outcome.UNRESOLVED, 0.0),
    (Stop.SUBMITTED, None, Outcome.EMPTY_PATCH, 0.0),
    (Stop.SUBMITTED, HANG, Outcome.TESTS_HANG, 0.0),
    (Stop.SUBMITTED, CHEAT, Outcome.INTEGRITY_VIOLATION, 0.0),
    (Stop.TURN_LIMIT, RESOLVED, Outcome.TURN_LIMIT, 1.0),
    (Stop.TURN_LIMIT, UNRESOLVED, Outcome.TURN_LIMIT, 0.0),
    (Stop.CONTEXT_LIMIT, RESOLVED, Outcome.CONTEXT_LIMIT, 1.0),
    (Stop.TIME_LIMIT, None, Outcome.TIME_LIMIT, 0.0),
    (Stop.TIME_LIMIT, HANG, Outcome.TIME_LIMIT, 0.0),
    (Stop.TIME_LIMIT, CHEAT, Outcome.INTEGRITY_VIOLATION, 0.0),
    (Stop.MALFORMED, None, Outcome.MALFORMED, 0.0),
    (Stop.SANDBOX_DEAD, None, Outcome.SANDBOX_KILLED, 0.0),
]


@pytest.mark.parametrize(("stop", "verdict", "outcome", "reward"), CASES)
def test_the_table(stop: Stop, verdict: Verdict | None, outcome: Outcome, reward: float) -> None:
    draft = make_trajectory("t", 0, stop=stop, outcome=None, reward=None, verdict=None)
    done = Rewards("resolved")(graded(draft, verdict))
    assert (done.outcome, done.reward, done.verdict) == (outcome, reward, verdict)
    assert is_resolved(done) == (reward == 1.0)


def partly(fixed: float, kept: float = 1.0) -> Verdict:
    """A verdict that does not resolve the task, with these shares of FAIL_TO_PASS and PASS_TO_PASS."""
    return UNRESOLVED.model_copy(update={"fail_to_pass_fraction": fixed, "pass_to_pass_fraction": kept})


@pytest.mark.parametrize(
    ("stop", "verdict", "reward"),
    [
        (Stop.SUBMITTED, RESOLVED, 1.0),
        (Stop.SUBMITTED, partly(0.667), 0.667),
        (Stop.SUBMITTED, partly(0.0), 0.0),
        (Stop.SUBMITTED, partly(0.667, 0.99), 0.0),
        (Stop.SUBMITTED, partly(1.0), 0.0),
        (Stop.SUBMITTED, None, 0.0),
        (Stop.TIME_LIMIT, partly(0.5), 0.5),
        (Stop.TIME_LIMIT, RESOLVED, 1.0),
        (Stop.SUBMITTED, partly(0.5).model_copy(update={"timed_out": True}), 0.0),
        (Stop.SUBMITTED, partly(0.5).model_copy(update={"integrity": ("a",)}), 0.0),
        (Stop.MALFORMED, None, 0.0),
    ],
)
def test_a_partial_reward_is_below_1_and_never_for_more_than_the_tests_said(
    stop: Stop, verdict: Verdict | None, reward: float
) -> None:
    draft = make_trajectory("t", 0, stop=stop, outcome=None, reward=None, verdict=None)
    done = Rewards("fraction")(graded(draft, verdict))
    assert done.reward == reward
    assert is_resolved(done) == (reward == 1.0)


def test_a_killed_sandbox_is_the_policys_doing_and_a_broken_task_nobodys() -> None:
    killed, broken = OUTCOME_TABLE[Outcome.SANDBOX_KILLED], OUTCOME_TABLE[Outcome.BROKEN_TASK]
    assert (killed.reward, killed.in_baseline, killed.trained, killed.retried) == (0.0, True, True, False)
    assert (broken.reward, broken.in_baseline, broken.trained, broken.retried) == (None, False, False, False)


def test_what_needs_grading() -> None:
    assert needs_grading(make_trajectory("t", 0))
    assert needs_grading(make_trajectory("t", 0, stop=Stop.TIME_LIMIT))
    assert not needs_grading(make_trajectory("t", 0, patch=" \n"))
    assert not needs_grading(make_trajectory("t", 0, stop=Stop.MALFORMED))
    assert not needs_grading(make_trajectory("t", 0, stop=Stop.SANDBOX_DEAD))


def test_an_agent_must_say_why_it_stopped() -> None:
    with pytest.raises(ValueError, match="why it stopped"):
        outcome_of(None, RESOLVED)
