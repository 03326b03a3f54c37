"""From how the agent stopped and what the grader said to an `Outcome`, and what `OUTCOME_TABLE` says of it."""

from swe_aem.core import OUTCOME_TABLE, Outcome, Stop, Trajectory, Verdict

_STOPPED_BY_LIMIT = {
    Stop.TURN_LIMIT: Outcome.TURN_LIMIT,
    Stop.CONTEXT_LIMIT: Outcome.CONTEXT_LIMIT,
    Stop.TIME_LIMIT: Outcome.TIME_LIMIT,
}


def needs_grading(trajectory: Trajectory) -> bool:
    """Can a verdict still change the outcome? An empty patch resolves nothing, and malformed calls and a killed sandbox
    are what they are."""
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


def graded(trajectory: Trajectory, verdict: Verdict | None) -> Trajectory:
    """The terminal trajectory of a verdict, or of none where none was needed. It has no reward yet."""
    return trajectory.model_copy(update={"verdict": verdict, "outcome": outcome_of(trajectory.stop, verdict)})


def is_resolved(trajectory: Trajectory) -> bool:
    """Did this terminal trajectory resolve its task, whatever its reward is? What ended at a limit may have; a cheat
    has not."""
    if trajectory.outcome in _STOPPED_BY_LIMIT.values():
        return trajectory.verdict is not None and trajectory.verdict.resolved
    return trajectory.outcome is Outcome.RESOLVED


def in_baseline(trajectory: Trajectory) -> bool:
    """Does this terminal trajectory take part in its group's baseline?"""
    return trajectory.outcome is not None and OUTCOME_TABLE[trajectory.outcome].in_baseline


def is_infrastructure_failure(trajectory: Trajectory) -> bool:
    """Did infrastructure or the grader fail in every attempt of this terminal trajectory?"""
    return trajectory.outcome is not None and OUTCOME_TABLE[trajectory.outcome].retried
