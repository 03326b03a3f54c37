"""The budget of a trajectory covers its parts."""

from hypothesis import given
from hypothesis import strategies as st

from swe_aem.rollout import RolloutConfig, SchedulingConfig, budget
from swe_aem.testing.builders import make_record

positive = st.floats(0.1, 1e4)


@given(agent_s=positive, eval_s=positive, start_s=positive, attempts=st.integers(1, 5), concurrency=st.integers(1, 64))
def test_the_parts_fit_into_the_whole(
    agent_s: float, eval_s: float, start_s: float, attempts: int, concurrency: int
) -> None:
    limits = SchedulingConfig(start_limit_s=start_s, max_attempts=attempts, concurrency=concurrency)
    config = RolloutConfig(time_limit_s=agent_s, scheduling=limits)
    task = make_record(timeout_s=eval_s)
    agent, grade = budget.agent_attempt_s(config), budget.grade_attempt_s(config, task)
    assert agent > start_s + agent_s
    assert grade > 10 * eval_s, "a hang of the tests must show before the grade's own limit, on a starved host too"
    assert budget.trajectory_s(config) >= attempts * agent
    assert budget.sandbox_ttl_s(config, task) > agent + grade


def test_what_waits_for_no_policy_has_the_agents_own_time() -> None:
    short, long = (RolloutConfig(time_limit_s=seconds) for seconds in (1000.0, 3000.0))
    assert budget.replay_s(long) - budget.replay_s(short) == 2000.0
    assert budget.agent_attempt_s(long) - budget.agent_attempt_s(short) == 20_000.0


def test_backoff_doubles() -> None:
    limits = SchedulingConfig(backoff_s=2.0)
    assert [budget.backoff_s(limits, n) for n in (1, 2, 3)] == [2.0, 4.0, 8.0]
