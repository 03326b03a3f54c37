"""The reward functions that are built in."""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from swe_aem.core import Response, Trajectory, Verdict
from swe_aem.core.base import Frozen


def resolved(trajectory: Trajectory, verdict: Verdict) -> float:
    """1 for a resolved task, else 0."""
    return float(verdict.resolved)


def fraction(trajectory: Trajectory, verdict: Verdict) -> float:
    """1 for a resolved task; below 1 the share of FAIL_TO_PASS that passes, or the number that the tests wrote.

    0 if a PASS_TO_PASS test is broken, if the tests hang, or if all pass and the tests still failed.
    """
    if verdict.resolved:
        return 1.0
    whole = verdict.pass_to_pass_fraction == 1.0 and verdict.fail_to_pass_fraction < 1.0
    return verdict.fail_to_pass_fraction if whole and not verdict.timed_out else 0.0


def graded(trajectory: Trajectory, verdict: Verdict) -> float:
    """The number that a task's tests wrote, 0 to 1; 1 only if they call the task resolved.

    Only for families whose tests write one (Harbor): a rollout of other tasks is refused when it starts.
    """
    return fraction(trajectory, verdict)


_BASES: dict[str, Callable[[Trajectory, Verdict], float]] = {
    "resolved": resolved,
    "fraction": fraction,
    "graded": graded,
}


class TurnCost(Frozen):
    """What another built-in reward pays, less a share of it for each turn.

    The cost is a share and not a sum, so that a resolved task is always paid more than one that is not, and giving up
    early earns nothing.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    of: Literal["resolved", "fraction", "graded"] = "resolved"
    """The reward that is reduced."""
    per_turn: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of it that each turn costs. Turns of branches count too."""
    most: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """The largest share that turns can cost."""

    def __call__(self, trajectory: Trajectory, verdict: Verdict) -> float:
        """The reduced reward."""
        turns = len(trajectory.responses) + sum(len(branch.responses) for branch in trajectory.branches)
        return _BASES[self.of](trajectory, verdict) * (1.0 - min(self.most, self.per_turn * turns))


class Format(Frozen):
    """Share of the responses that are well formed: at least one tool call, and none that could not be understood."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    per: Literal["trajectory", "response"] = "trajectory"
    """trajectory: one number; response: one per response, each an equal share of that number."""

    def __call__(self, trajectory: Trajectory, verdict: Verdict) -> float | list[float]:
        """The share, 0 to 1, whole or by response."""
        formed = [float(_well_formed(response)) for response in trajectory.responses]
        if self.per == "response":
            return [one / len(formed) for one in formed]
        return sum(formed) / len(formed) if formed else 0.0


def _well_formed(response: Response) -> bool:
    calls = response.tool_calls
    return bool(calls) and all(call.status == "ok" for call in calls)
