"""Which groups of a step are trained on, and what is said of them."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swe_aem.core import OUTCOME_TABLE, Branch, Outcome, Response, ToolCall, Trajectory, Verdict, VersionSpan
from swe_aem.core.outcome import LimitsReward
from swe_aem.train.group_queue import GroupQueue, QueueRules
from swe_aem.train.steps import (
    Step,
    TrajectoryGroup,
    dropped_by_length,
    prepared,
    require_one_version,
    varied,
    worth_of,
)


def trajectory(sample: int, outcome: Outcome, *, version: int = 0, calls: tuple[ToolCall, ...] = ()) -> Trajectory:
    response = Response(
        start=1, end=3, logprobs=(-1.0, -1.0), version=version, finish_reason="stop", sample_s=0.0, tool_calls=calls
    )
    fault = not OUTCOME_TABLE[outcome].in_baseline
    return Trajectory(
        task_id="t",
        sample=sample,
        agent="a",
        model="m",
        token_ids=() if fault else (1, 2, 3),
        responses=() if fault else (response,),
        outcome=outcome,
        reward=None if fault else float(outcome is Outcome.RESOLVED),
    )


def choose(
    groups: Sequence[TrajectoryGroup], wanted: int, size: int, limits_reward: LimitsReward = "graded"
) -> tuple[tuple[TrajectoryGroup, ...], tuple[TrajectoryGroup, ...]]:
    """(groups to train on, groups rejected) of a step on policy for which these were rolled out."""
    queue = GroupQueue(QueueRules(groups_per_step=wanted, oversampled_groups=len(groups), steps=1))
    ready = [prepared(group, size) for group in groups]
    for number, group in enumerate(ready):
        queue.begin(number)
        queue.complete(number, worth_of(group, limits_reward))
    taken = queue.take()
    assert taken is not None
    return tuple(ready[n] for n in taken.trained), tuple(ready[n] for n in taken.rejected)


RESOLVED, UNRESOLVED, FAULT = Outcome.RESOLVED, Outcome.UNRESOLVED, Outcome.INFRASTRUCTURE
BROKEN = Outcome.BROKEN_TASK


def test_on_policy_no_response_may_have_two_versions() -> None:
    plain = trajectory(0, RESOLVED, version=2)
    require_one_version([(plain, trajectory(1, RESOLVED, version=3))])
    spans = (VersionSpan(start=1, version=3),)
    mixed = plain.model_copy(update={"responses": (plain.responses[0].model_copy(update={"spans": spans}),)})
    with pytest.raises(RuntimeError, match=r"t\.0: one response has the versions 2, 3, and max_staleness 0"):
        require_one_version([(plain,), (mixed,)])


def test_groups_whose_rewards_differ_come_first() -> None:
    same = tuple(trajectory(n, UNRESOLVED) for n in range(2))
    mixed = (trajectory(0, RESOLVED), trajectory(1, UNRESOLVED))
    kept, rejected = choose([same, mixed, same, mixed], 3, 2)
    assert kept == (same, mixed, mixed)
    assert rejected == (same,)


def test_rounding_is_no_difference_and_any_other_reward_is_one() -> None:
    """Sums of terms that mean the same may differ in their last bit; a group of those has nothing to learn from."""
    paid = [trajectory(n, RESOLVED).model_copy(update={"reward": reward}) for n, reward in enumerate((0.3, 0.1 + 0.2))]
    assert paid[0].reward != paid[1].reward
    assert not varied(tuple(paid))
    assert varied((paid[0], paid[1].model_copy(update={"reward": 0.31})))


def test_the_resolved_rate_does_not_read_the_reward() -> None:
    one = trajectory(0, RESOLVED).model_copy(update={"reward": 0.4, "reward_terms": {"a": 0.5}})
    other = trajectory(1, UNRESOLVED).model_copy(update={"reward": 1.0, "reward_terms": {"a": 1.0}})
    metrics = Step(number=1, groups=((one, other),)).metrics()
    assert (metrics.resolved_rate, metrics.mean_reward, metrics.reward_terms) == (0.5, 0.7, {"a": 0.75})


def test_a_fault_is_no_difference() -> None:
    assert not varied((trajectory(0, FAULT), trajectory(1, RESOLVED)))


def test_a_limit_that_pays_nothing_makes_no_difference_where_the_others_failed() -> None:
    """With limits_reward zero a solved task that hit a limit has the reward of those that failed."""
    solves = Verdict(resolved=True, patch_applied=True)
    late = trajectory(0, Outcome.TURN_LIMIT).model_copy(update={"reward": 1.0, "verdict": solves})
    failed, solved = (late, trajectory(1, UNRESOLVED)), (late, trajectory(1, RESOLVED))
    assert (varied(failed), varied(failed, "zero")) == (True, False)
    assert (varied(solved), varied(solved, "zero")) == (False, True)
    assert choose([failed, solved], 1, 2)[0] == (failed,)
    assert choose([failed, solved], 1, 2, "zero")[0] == (solved,)
    metrics = Step(number=1, groups=(failed, solved), limits_reward="zero").metrics()
    assert (metrics.zero_variance_groups, metrics.resolved_rate) == (1, 0.75), "the rate is that of the tests"


def test_a_limit_that_pays_nothing_pays_no_response_either() -> None:
    group = tuple(
        trajectory(n, Outcome.TURN_LIMIT).model_copy(update={"reward": first, "response_rewards": (first, 0.0)})
        for n, first in enumerate((0.5, 0.1))
    )
    assert (varied(group), varied(group, "zero")) == (True, False)


def test_of_an_oversampled_group_those_that_count_are_kept() -> None:
    group = (trajectory(0, FAULT), trajectory(1, RESOLVED), trajectory(2, UNRESOLVED), trajectory(3, RESOLVED))
    ((kept,), _) = choose([group], 1, 2)
    assert [one.sample for one in kept] == [1, 2]
    (((*_, last),), _) = choose([(trajectory(0, RESOLVED), trajectory(1, FAULT))], 1, 2)
    assert last.outcome is FAULT  # never a silently smaller group


def test_the_group_of_a_broken_task_is_dropped_by_name() -> None:
    mixed = (trajectory(0, RESOLVED), trajectory(1, UNRESOLVED))
    late = (trajectory(0, UNRESOLVED), trajectory(1, BROKEN))  # its first sample ended before that was measured
    same = (trajectory(0, UNRESOLVED), trajectory(1, UNRESOLVED))
    assert choose([late, mixed, same], 2, 2)[0] == (mixed, same)
    (filler,), _ = choose([late], 1, 2)
    assert {one.outcome for one in filler} == {BROKEN}, "where it has to fill a step, nothing of it counts"
    metrics = Step(number=1, groups=(filler, mixed)).metrics()
    assert metrics.broken_tasks == ("t",)
    assert (metrics.infrastructure_failures, metrics.zero_variance_groups, metrics.resolved_rate) == (0, 0, 0.5)


@given(
    st.lists(
        st.lists(st.sampled_from([RESOLVED, UNRESOLVED, FAULT, BROKEN]), min_size=3, max_size=5),
        min_size=4,
        max_size=8,
    )
)
def test_nothing_is_lost_or_doubled(outcomes: list[list[Outcome]]) -> None:
    groups = [tuple(trajectory(n, outcome) for n, outcome in enumerate(group)) for group in outcomes]
    random.Random(0).shuffle(groups)
    kept, rejected = choose(groups, 4, 3)
    assert len(kept) == 4
    assert len(kept) + len(rejected) == len(groups)
    assert all(len(group) == 3 for group in (*kept, *rejected))


def test_the_share_of_tokens_in_branches_is_of_all_that_was_sampled() -> None:
    """Two trajectories of two tokens; one has two branches of five and one token, a fault's branch is in no figure."""

    def branch(*lengths: int) -> Branch:
        ends = [sum(lengths[: n + 1]) + n + 1 for n in range(len(lengths))]
        responses = tuple(
            Response(start=end - n, end=end, logprobs=(-1.0,) * n, version=0, finish_reason="stop", sample_s=0.0)
            for n, end in zip(lengths, ends, strict=True)
        )
        return Branch(token_ids=(1,) * (ends[-1] + 1), responses=responses)

    plain = (trajectory(0, RESOLVED), trajectory(1, UNRESOLVED))
    assert Step(number=1, groups=(plain,)).metrics().branch_share == 0.0
    branched = (
        plain[0],
        plain[1].model_copy(update={"branches": (branch(2, 3), branch(1))}),
        trajectory(2, FAULT).model_copy(update={"branches": (branch(7),)}),
    )
    metrics = Step(number=1, groups=(branched,)).metrics()
    assert (metrics.sampled_tokens, metrics.branch_share) == (4, 0.6)
    assert Step(number=1, groups=((trajectory(0, FAULT),),)).metrics().branch_share is None


def test_figures_leave_faults_out_of_rates_and_show_them() -> None:
    failed = ToolCall(name="bash", arguments={}, exit_code=1)
    worked = ToolCall(name="bash", arguments={}, exit_code=0, converted=1)
    bad = ToolCall(name="bash", arguments={}, status="malformed")
    group = (
        trajectory(0, RESOLVED, version=3, calls=(failed, worked)),
        trajectory(1, UNRESOLVED, version=4, calls=(bad, worked)),
        trajectory(2, FAULT),
    )
    metrics = Step(number=5, groups=(group,), rollout_s=2.0).metrics()
    assert metrics.resolved_rate == 0.5
    assert metrics.outcomes == {"resolved": 1, "unresolved": 1, "infrastructure": 1}
    assert metrics.infrastructure_failures == 1
    assert metrics.tool_failure_rate == metrics.malformed_rate == 0.25
    assert metrics.converted_rate == 0.5
    assert metrics.staleness == 0.5
    assert metrics.tokens_per_s == 2.0
    assert metrics.zero_variance_groups == 0


def test_a_step_of_nothing_but_faults_has_figures() -> None:
    metrics = Step(number=1, groups=((trajectory(0, FAULT), trajectory(1, FAULT)),)).metrics()
    assert metrics.resolved_rate is None
    assert metrics.infrastructure_failures == 2


def test_what_was_dropped_is_shown_by_length() -> None:
    def lasting(tokens: int) -> TrajectoryGroup:
        one = trajectory(0, RESOLVED)
        longer = {"end": 1 + tokens, "logprobs": (-1.0,) * tokens}
        response = one.responses[0].model_copy(update=longer)
        return (one.model_copy(update={"token_ids": (1,) * (1 + tokens), "responses": (response,)}),)

    kept = [lasting(n) for n in (1, 2, 3, 4, 5, 7)]
    dropped = (lasting(6), lasting(8))
    assert dropped_by_length(kept, dropped) == {"q1": 0.0, "q2": 0.0, "q3": 0.5, "q4": 0.5}
    metrics = Step(number=3, groups=tuple(kept), dropped=dropped).metrics()
    assert (metrics.dropped_groups, metrics.max_age) == (2, 2)
    assert Step(number=3, groups=tuple(kept)).metrics().dropped_by_length == {}
