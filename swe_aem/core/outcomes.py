"""From how the agent stopped and what the grader said to an `Outcome` and a reward, by `OUTCOME_TABLE`."""

from swe_aem.core import OUTCOME_TABLE, Outcome, Stop, Trajectory, Verdict

_STOPPED_BY_LIMIT = {
    Stop.TURN_LIMIT: Outcome.TURN_LIMIT,
    Stop.CONTEXT_LIMIT: Outcome.CONTEXT_LIMIT,
    Stop.TIME_LIMIT: Outcome.TIME_LIMIT,
}


def needs_grading(trajectory: Trajectory) -> bool:
    """Can a verdict still change the reward? An empty patch resolves nothing, and malformed calls and a killed sandbox
    cost it anyway."""
    return trajectory.stop not in (Stop.MALFORMED, Stop.SANDBOX_DEAD) and bool(trajectory.patch.strip())


def outcome_of(stop: Stop | None, verdict: Verdict | None) -> Outcome:
    """How the trajectory ended; `verdict` is None if `needs_grading` was false.

    Cheating is recorded before anything else, then what stopped the agent, then what the tests said. A dead sandbox
    counts as the policy's doing here: whose doing it was is measured before.
    """
    if stop is None:
        raise ValueError("an agent returned a trajectory without saying why it stopped")
    if verdict is not None and verdict.integrity:
        return Outcome.INTEGRITY_VIOLATION
    if stop is Stop.MALFORMED:
        return Outcome.MALFORMED
    if stop is Stop.SANDBOX_DEAD:
        return Outcome.SANDBOX_KILLED
    if stop in _STOPPED_BY_LIMIT:
        return _STOPPED_BY_LIMIT[stop]
    if verdict is None:
        return Outcome.EMPTY_PATCH
    if verdict.timed_out:
        return Outcome.TESTS_HANG
    return Outcome.RESOLVED if verdict.resolved else Outcome.UNRESOLVED


def reward_of(outcome: Outcome, verdict: Verdict | None, *, partial: bool = False) -> float | None:
    """The table's reward; None makes no statement about the policy. `partial` pays what a verdict grants in part."""
    reward = OUTCOME_TABLE[outcome].reward
    if reward == "graded" or (partial and outcome is Outcome.UNRESOLVED):
        if verdict is not None and verdict.resolved:
            return 1.0
        return _part(verdict) if partial and verdict is not None else 0.0
    return reward


def _part(verdict: Verdict) -> float:
    """What a verdict that did not resolve the task grants, below 1: the share of FAIL_TO_PASS that passes, or the
    number that the tests wrote; nothing if a PASS_TO_PASS test is broken, or if all pass and the tests still failed."""
    whole = verdict.pass_to_pass_fraction == 1.0 and verdict.fail_to_pass_fraction < 1.0
    return verdict.fail_to_pass_fraction if whole else 0.0


def graded(trajectory: Trajectory, verdict: Verdict | None, *, partial: bool = False) -> Trajectory:
    """The terminal trajectory of a verdict, or of none where none was needed; `partial` as in `reward_of`."""
    outcome = outcome_of(trajectory.stop, verdict)
    return trajectory.model_copy(
        update={"verdict": verdict, "outcome": outcome, "reward": reward_of(outcome, verdict, partial=partial)},
    )


def in_baseline(trajectory: Trajectory) -> bool:
    """Does this terminal trajectory take part in its group's baseline?"""
    return trajectory.outcome is not None and OUTCOME_TABLE[trajectory.outcome].in_baseline


def is_infrastructure_failure(trajectory: Trajectory) -> bool:
    """Did infrastructure or the grader fail in every attempt of this terminal trajectory?"""
    return trajectory.outcome is not None and OUTCOME_TABLE[trajectory.outcome].retried
