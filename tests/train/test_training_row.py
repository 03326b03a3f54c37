"""Training rows: exact ids and log-probabilities, masks by the outcome table."""

import pytest

from swe_aem.core import Outcome, Response, RoutedExperts, Trajectory
from swe_aem.errors import UserError
from swe_aem.train.training_row import training_row


def trajectory(outcome: Outcome | None, reward: float | None = 0.0, **fields: object) -> Trajectory:
    responses = (
        Response(start=3, end=5, logprobs=(-0.1, -0.2), version=0, finish_reason="stop", sample_s=0.1),
        Response(start=5, end=6, logprobs=(-0.3,), version=1, finish_reason="stop", sample_s=0.1),
        Response(start=8, end=9, logprobs=(-0.4,), version=1, finish_reason="stop", sample_s=0.1),
    )
    return Trajectory.model_validate(
        {
            "task_id": "t",
            "sample": 0,
            "agent": "native",
            "model": "m",
            "token_ids": tuple(range(100, 110)),
            "responses": responses,
            "outcome": outcome,
            "reward": reward,
            **fields,
        }
    )


def test_ids_and_logprobs_are_the_stored_ones() -> None:
    row = training_row(trajectory(Outcome.RESOLVED, 1.0, weight=0.5))
    assert row["prompt_ids"] == [100, 101, 102]
    assert row["completion_ids"] == [103, 104, 105, 106, 107, 108, 109]
    assert row["logprobs"] == [-0.1, -0.2, -0.3, 0.0, 0.0, -0.4, 0.0]
    assert row["env_mask"] == [1, 1, 1, 0, 0, 1, 0]
    assert row["response_of_token"] == [0, 0, 1, -1, -1, 2, -1]  # adjacent responses stay two
    assert (row["reward"], row["counts"], row["weight"]) == (1.0, True, 0.5)


def routed(one: Trajectory) -> Trajectory:
    """The trajectory with routed experts: of a model with one layer and one expert per token, a response's number."""
    responses = tuple(
        response.model_copy(
            update={
                "routed_experts": RoutedExperts(
                    layers=1, experts_per_token=1, id_bytes=1, ids=bytes([n] * (response.end - response.start))
                )
            }
        )
        for n, response in enumerate(one.responses)
    )
    return one.model_copy(update={"responses": responses})


def test_routes_are_those_of_the_responses_that_are_trained() -> None:
    made = routed(trajectory(Outcome.RESOLVED, 1.0))
    found = training_row(made, routing_replay=True).get("routes", [])
    assert [(one.start, one.experts.ids) for one in found] == [(0, b"\0\0"), (2, b"\1"), (5, b"\2")]
    assert "routes" not in training_row(made)
    untrained = trajectory(Outcome.INFRASTRUCTURE, None)
    assert training_row(untrained, routing_replay=True).get("routes") == []
    with pytest.raises(UserError, match=r"t\.0: response 0 was stored without routed experts"):
        training_row(trajectory(Outcome.RESOLVED, 1.0), routing_replay=True)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_outcomes(outcome: Outcome) -> None:
    unrewarded = outcome in (Outcome.INFRASTRUCTURE, Outcome.GRADER_FAILURE, Outcome.BROKEN_TASK)
    limit = outcome in (Outcome.TURN_LIMIT, Outcome.CONTEXT_LIMIT, Outcome.TIME_LIMIT)
    row = training_row(trajectory(outcome, None if unrewarded else 0.0))
    assert row["counts"] is not unrewarded
    assert row["reward"] == (None if unrewarded else 0.0)
    assert any(row["env_mask"]) is not (unrewarded or limit)
    assert (
        any(training_row(trajectory(outcome, None if unrewarded else 0.0), compact_filtering=False)["env_mask"])
        is not unrewarded
    )


@pytest.mark.parametrize("outcome", list(Outcome))
def test_rewards_by_response_are_those_of_the_baseline_s_reward_or_none(outcome: Outcome) -> None:
    counted = outcome not in (Outcome.INFRASTRUCTURE, Outcome.GRADER_FAILURE, Outcome.BROKEN_TASK)
    limit = outcome in (Outcome.TURN_LIMIT, Outcome.CONTEXT_LIMIT, Outcome.TIME_LIMIT)
    paid = trajectory(outcome, 1.0, response_rewards=(0.25, 0.0, 0.75))
    assert training_row(paid)["response_rewards"] == ([0.25, 0.0, 0.75] if counted else None)
    zero = training_row(paid, limits_reward="zero")
    assert zero["response_rewards"] == ([0.25, 0.0, 0.75] if counted and not limit else None)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_limits_reward_is_that_of_limits_alone(outcome: Outcome) -> None:
    """A task that was solved at a limit pays 1 or 0 in the baseline; its mask and every other outcome stay."""
    counted = outcome not in (Outcome.INFRASTRUCTURE, Outcome.GRADER_FAILURE, Outcome.BROKEN_TASK)
    limit = outcome in (Outcome.TURN_LIMIT, Outcome.CONTEXT_LIMIT, Outcome.TIME_LIMIT)
    graded, zero = (training_row(trajectory(outcome, 1.0), limits_reward=one) for one in ("graded", "zero"))
    assert graded["reward"] == (1.0 if counted else None)
    assert zero["reward"] == ((0.0 if limit else 1.0) if counted else None)
    assert {**zero, "reward": None} == {**graded, "reward": None}


def test_a_failure_before_the_first_response() -> None:
    row = training_row(trajectory(Outcome.INFRASTRUCTURE, None, token_ids=(), responses=()))
    assert (row["prompt_ids"], row["completion_ids"], row["counts"]) == ([], [], False)


@pytest.mark.parametrize("compact_filtering", [True, False])
def test_a_limit_before_the_first_response_counts_and_trains_nothing(compact_filtering: bool) -> None:
    """A statement that fills the context is the task's fault and the policy's: no response, and a reward."""
    row = training_row(trajectory(Outcome.CONTEXT_LIMIT, responses=()), compact_filtering=compact_filtering)
    assert (row["counts"], row["reward"], row["completion_ids"], row["env_mask"]) == (True, 0.0, [], [])


@pytest.mark.parametrize(
    ("outcome", "fields", "message"),
    [
        (None, {}, "not graded"),
        (Outcome.UNRESOLVED, {"reward": None}, "without a reward"),
        (Outcome.UNRESOLVED, {"responses": ()}, "without a response"),
    ],
)
def test_refused(outcome: Outcome | None, fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        training_row(trajectory(outcome, **fields))
