"""What a trajectory refuses, and what it derives."""

import pytest
from pydantic import ValidationError

from swe_aem.core import OUTCOME_TABLE, Outcome, Response, Trajectory


def response(start: int, end: int, logprobs: int | None = None) -> Response:
    count = end - start if logprobs is None else logprobs
    return Response(start=start, end=end, logprobs=(-0.5,) * count, version=0, finish_reason="stop", sample_s=0.0)


def trajectory(*responses: Response, tokens: int = 10) -> Trajectory:
    return Trajectory(task_id="t", sample=0, agent="a", model="m", token_ids=tuple(range(tokens)), responses=responses)


def test_mask_marks_exactly_the_sampled_tokens() -> None:
    made = trajectory(response(2, 4), response(7, 10))
    assert [n for n, sampled in enumerate(made.sampled_mask) if sampled] == [2, 3, 7, 8, 9]
    assert made.id == "t.0"


@pytest.mark.parametrize(
    "responses",
    [
        (response(2, 5), response(4, 6)),
        (response(8, 11),),
        (response(3, 3),),
        (response(5, 7), response(1, 2)),
        (response(1, 3, logprobs=1),),
    ],
    ids=["overlap", "beyond the end", "empty", "backwards", "logprobs missing"],
)
def test_spans_that_do_not_fit_are_refused(responses: tuple[Response, ...]) -> None:
    with pytest.raises(ValidationError, match="response"):
        trajectory(*responses)


def test_every_outcome_has_a_rule_and_only_what_says_nothing_of_the_policy_has_no_reward() -> None:
    assert set(OUTCOME_TABLE) == set(Outcome)
    without_reward = {outcome for outcome, rule in OUTCOME_TABLE.items() if rule.reward is None}
    assert without_reward == {Outcome.INFRASTRUCTURE, Outcome.GRADER_FAILURE, Outcome.BROKEN_TASK}
    for outcome, rule in OUTCOME_TABLE.items():
        assert rule.retried == (outcome in (Outcome.INFRASTRUCTURE, Outcome.GRADER_FAILURE))
        assert rule.in_baseline == (outcome not in without_reward)
        assert rule.trained <= rule.in_baseline
