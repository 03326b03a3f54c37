"""How a trajectory ends, and the one table that turns the ending into reward and masks (docs/architecture.md)."""

from enum import StrEnum
from typing import Literal

from swe_aem.core.base import Frozen


class Outcome(StrEnum):
    """Terminal states of a trajectory. The strings are stored; never rename one."""

    RESOLVED = "resolved"
    UNRESOLVED = "unresolved"
    EMPTY_PATCH = "empty_patch"
    TESTS_HANG = "tests_hang"
    TURN_LIMIT = "turn_limit"
    CONTEXT_LIMIT = "context_limit"
    TIME_LIMIT = "time_limit"
    MALFORMED = "malformed"
    INTEGRITY_VIOLATION = "integrity_violation"
    SANDBOX_KILLED = "sandbox_killed"
    BROKEN_TASK = "broken_task"
    INFRASTRUCTURE = "infrastructure"
    GRADER_FAILURE = "grader_failure"


LimitsReward = Literal["graded", "zero"]
"""Reward in a group's baseline of what ended at a limit: what the reward function says, or 0."""


class OutcomeRule(Frozen):
    """What an outcome means for training."""

    reward: float | Literal["graded"] | None
    """`graded`: what the reward function says (`swe_aem.reward`); a constant, which no function can change; or None: no
    statement about the policy."""
    in_baseline: bool
    """Does the trajectory take part in the group's baseline?"""
    trained: bool
    """Do its tokens carry loss?"""
    retried: bool = False
    """Is it tried again in a fresh sandbox before it is recorded?"""


_POLICY_ENDED = {"in_baseline": True, "trained": True}
_GRADED = OutcomeRule(reward="graded", **_POLICY_ENDED)
_LIMIT = OutcomeRule(reward="graded", in_baseline=True, trained=False)
_INFRASTRUCTURE_FAILURE = OutcomeRule(reward=None, in_baseline=False, trained=False, retried=True)

OUTCOME_TABLE: dict[Outcome, OutcomeRule] = {
    Outcome.RESOLVED: _GRADED,
    Outcome.UNRESOLVED: _GRADED,
    Outcome.EMPTY_PATCH: _GRADED,
    Outcome.TESTS_HANG: _GRADED,
    Outcome.TURN_LIMIT: _LIMIT,
    Outcome.CONTEXT_LIMIT: _LIMIT,
    Outcome.TIME_LIMIT: _LIMIT,
    Outcome.MALFORMED: OutcomeRule(reward=0.0, **_POLICY_ENDED),
    Outcome.INTEGRITY_VIOLATION: OutcomeRule(reward=0.0, **_POLICY_ENDED),
    Outcome.SANDBOX_KILLED: OutcomeRule(reward=0.0, **_POLICY_ENDED),
    Outcome.BROKEN_TASK: OutcomeRule(reward=None, in_baseline=False, trained=False),
    Outcome.INFRASTRUCTURE: _INFRASTRUCTURE_FAILURE,
    Outcome.GRADER_FAILURE: _INFRASTRUCTURE_FAILURE,
}
"""For limits, the trainer may switch compact filtering (`trained=False`) off, and may put 0 in the place of `graded`
(`LimitsReward`); nothing else may be overridden."""
