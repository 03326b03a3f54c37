"""`Step`: what was rolled out for one step of training, which groups it trains on, and its metrics."""

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol

from swe_aem.core import OUTCOME_TABLE, Outcome, Response, Trajectory
from swe_aem.core.base import Frozen
from swe_aem.core.outcome import LimitsReward
from swe_aem.core.outcomes import is_infrastructure_failure, is_resolved
from swe_aem.fleet.figures import FleetFigures
from swe_aem.train.group_queue import Worth
from swe_aem.train.records import RolloutMetrics
from swe_aem.train.training_row import baseline_response_rewards, baseline_reward

_SAME_REWARD = 1e-9
TrajectoryGroup = tuple[Trajectory, ...]
"""Trajectories of one task that share a baseline."""


class Step(Frozen):
    """All trajectories of a step."""

    number: int
    """From 1."""
    groups: tuple[TrajectoryGroup, ...]
    """Groups that are trained on, each with the same number of trajectories."""
    rejected: tuple[TrajectoryGroup, ...] = ()
    """Groups that were rolled out and are not trained on: their rewards are all the same."""
    dropped: tuple[TrajectoryGroup, ...] = ()
    """Groups that got too old since the step before."""
    queued_groups: int = 0
    """Complete groups that the step left in the queue."""
    running_groups: int = 0
    """Groups that were being rolled out when the step took its own."""
    held_back_s: float = 0.0
    """Seconds in which enough groups were complete and the step waited for older ones."""
    rollout_s: float = 0.0
    """Seconds from the first sandbox to the last verdict; 0 if all of it was in the store."""
    fleet: FleetFigures | None = None
    """How the hosts of a cluster fared since the step before; None without one."""
    limits_reward: LimitsReward = "graded"
    """Reward in the baseline of what ended at a limit, as in `baseline_reward`."""

    def metrics(self) -> RolloutMetrics:
        """The step's rollouts in numbers: all trajectories, those included that are not trained on, with the rewards as
        graded."""
        trajectories = [one for group in (*self.groups, *self.rejected, *self.dropped) for one in group]
        judged = [one for one in trajectories if _counts(one)]
        responses = [response for one in judged for response in one.responses]
        calls = [call for response in responses for call in response.tool_calls]
        sampled = _tokens(responses)
        in_branches = sum(_tokens(branch.responses) for one in judged for branch in one.branches)
        behind = [self.number - 1 - response.version for response in responses]
        terms = sorted({name for one in judged for name in one.reward_terms})
        return RolloutMetrics(
            resolved_rate=_share(sum(map(is_resolved, judged)), len(judged)),
            mean_reward=_mean([one.reward for one in judged if one.reward is not None]),
            reward_terms={
                name: _mean([one.reward_terms[name] for one in judged if name in one.reward_terms]) for name in terms
            },
            outcomes=dict(Counter(str(one.outcome) for one in trajectories)),
            infrastructure_failures=sum(map(is_infrastructure_failure, trajectories)),
            broken_tasks=tuple(sorted({one.task_id for one in trajectories if one.outcome is Outcome.BROKEN_TASK})),
            retries=sum(one.attempt for one in trajectories),
            groups=len(self.groups),
            rejected_groups=len(self.rejected),
            zero_variance_groups=sum(
                not varied(group, self.limits_reward) and not is_broken(group) for group in self.groups
            ),
            turns=_share(len(responses), len(judged)),
            sampled_tokens=sampled,
            branch_share=_share(in_branches, sampled + in_branches),
            tokens_per_s=_share(sampled, self.rollout_s),
            tool_failure_rate=_share(sum(bool(call.exit_code) for call in calls), len(calls)),
            malformed_rate=_share(sum(call.status == "malformed" for call in calls), len(calls)),
            converted_rate=_share(sum(call.converted > 0 for call in calls), len(calls)),
            version=max((response.last_version for response in responses), default=self.number - 1),
            staleness=_share(sum(behind), len(behind)),
            max_age=max(
                (self.number - 1 - version for version in map(oldest_version, self.groups) if version is not None),
                default=None,
            ),
            queued_groups=self.queued_groups,
            running_groups=self.running_groups,
            held_back_s=self.held_back_s,
            dropped_groups=len(self.dropped),
            dropped_by_length=dropped_by_length((*self.groups, *self.rejected), self.dropped) if self.dropped else {},
            rollout_s=self.rollout_s,
            fleet=self.fleet,
        )


class StepSource(Protocol):
    """Where steps come from: live rollouts, or a fake of tests."""

    def wants_weights(self, number: int) -> bool:
        """Does what is rolled out in `step(number)` need the weights of `number - 1` steps, and have others?"""
        ...

    def step(self, number: int) -> Step:
        """Step `number`, counted from 1; blocks until it is rolled out. The policy has the weights of `number - 1`
        steps by then if they were wanted."""
        ...


def require_one_version(groups: Sequence[TrajectoryGroup]) -> None:
    """Raise `RuntimeError` if several versions of the weights sampled a response, which they never do where nothing is
    in flight when the weights change: with `max_staleness` 0."""
    for one in (one for group in groups for one in group):
        for response in one.all_responses:
            if response.spans:
                versions = ", ".join(map(str, response.versions))
                raise RuntimeError(
                    f"{one.id}: one response has the versions {versions}, and max_staleness 0 allows one version: "
                    "the weights changed while it was sampled"
                )


def prepared(group: TrajectoryGroup, size: int) -> TrajectoryGroup:
    """The group as it is trained on: `cut` to `size` trajectories, of which none counts if the task is broken."""
    return _dropped(cut(group, size)) if is_broken(group) else cut(group, size)


def worth_of(group: TrajectoryGroup, limits_reward: LimitsReward = "graded") -> Worth:
    """What a `prepared` group teaches."""
    if is_broken(group):
        return "broken"
    return "informative" if varied(group, limits_reward) else "zero_variance"


def oldest_version(group: TrajectoryGroup) -> int | None:
    """Version of the weights that sampled the oldest token of the group; None if it has none."""
    return min((response.version for one in group for response in one.all_responses), default=None)


def dropped_by_length(consumed: Sequence[TrajectoryGroup], dropped: Sequence[TrajectoryGroup]) -> dict[str, float]:
    """Share of the groups that were dropped in each quarter of all by sampled tokens, the shortest ones first; a
    quarter without a group is left out."""
    groups = sorted([(_group_tokens(one), False) for one in consumed] + [(_group_tokens(one), True) for one in dropped])
    quarters: dict[str, list[bool]] = {}
    for place, (_, lost) in enumerate(groups):
        quarters.setdefault(f"q{1 + 4 * place // len(groups)}", []).append(lost)
    return {name: sum(lost) / len(lost) for name, lost in quarters.items()}


def varied(group: TrajectoryGroup, limits_reward: LimitsReward = "graded") -> bool:
    """Do the rewards of the trajectories that count differ, in all or in when they are paid? Otherwise no base
    advantage of the group is other than 0. Rewards that differ by less than `_SAME_REWARD` are equal: that is
    rounding."""
    rewards = [reward for one in group if (reward := baseline_reward(one, limits_reward)) is not None]
    by_response = [baseline_response_rewards(one, limits_reward) for one in group]
    paid = [list(accumulate(one)) for one in by_response if one is not None]
    for number in range(max(map(len, paid), default=0)):
        earlier = [one[number] for one in paid if number + 1 < len(one)]
        if earlier and max(earlier) - min(earlier) > _SAME_REWARD:
            return True
    return bool(rewards) and max(rewards) - min(rewards) > _SAME_REWARD


def is_broken(group: TrajectoryGroup) -> bool:
    """Is the group's task broken? Its first members may have ended before that was measured."""
    return any(one.outcome is Outcome.BROKEN_TASK for one in group)


def _dropped(group: TrajectoryGroup) -> TrajectoryGroup:
    """The group of a broken task, none of which counts."""
    nothing = {"outcome": Outcome.BROKEN_TASK, "reward": None, "response_rewards": None, "reward_terms": {}}
    return tuple(one.model_copy(update=nothing) for one in group)


def cut(group: TrajectoryGroup, size: int) -> TrajectoryGroup:
    """What is trained on of a group that may have more than `size` trajectories (oversampling), ordered by sample: the
    first ones that count in the baseline, and those that do not count only where there are too few others."""
    return tuple(
        sorted(sorted(group, key=lambda one: (not _counts(one), one.sample))[:size], key=lambda one: one.sample)
    )


def _counts(trajectory: Trajectory) -> bool:
    return trajectory.outcome is not None and OUTCOME_TABLE[trajectory.outcome].in_baseline


def _tokens(responses: Sequence[Response]) -> int:
    return sum(response.end - response.start for response in responses)


def _group_tokens(group: TrajectoryGroup) -> int:
    return sum(_tokens(one.responses) for one in group)


def _mean(values: Sequence[float]) -> float | None:
    return _share(sum(values), len(values))


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
