"""What a trajectory refuses, and what it derives."""

import pytest
from pydantic import ValidationError

from swe_aem.core import (
    OUTCOME_TABLE,
    Branch,
    ChatCompletion,
    Completion,
    Outcome,
    Response,
    RoutedExperts,
    Trajectory,
    Usage,
    VersionSpan,
    is_chat,
)


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


def spans(*pairs: tuple[int, int]) -> tuple[VersionSpan, ...]:
    return tuple(VersionSpan(start=start, version=version) for start, version in pairs)


def completion(**changes: object) -> Completion:
    values = {"token_ids": (7, 8, 9), "logprobs": (-0.5,) * 3, "finish_reason": "stop", "version": 2}
    return Completion.model_validate(values | changes)


def test_a_response_says_which_versions_sampled_it() -> None:
    made = Response.of(completion(spans=spans((1, 3), (2, 5))), start=4, sample_s=0.0, tool_calls=())
    assert (made.version, made.versions, made.last_version) == (2, (2, 3, 5), 5)
    plain = Response.of(completion(), start=4, sample_s=0.0, tool_calls=())
    assert (plain.versions, plain.last_version) == ((2,), 2)


@pytest.mark.parametrize(
    "wrong",
    [spans((0, 3)), spans((3, 3)), spans((1, 2)), spans((1, 1)), spans((2, 3), (1, 4)), spans((1, 4), (2, 3))],
    ids=["at the first token", "past the end", "the same", "an older one", "backwards", "older than the one before"],
)
def test_versions_that_do_not_follow_each_other_are_refused(wrong: tuple[VersionSpan, ...]) -> None:
    with pytest.raises(ValidationError, match="after version"):
        completion(spans=wrong)
    made = Response.of(completion(), start=4, sample_s=0.0, tool_calls=())
    with pytest.raises(ValidationError, match="after version"):
        Response.model_validate(made.model_dump() | {"spans": wrong})


def test_routed_experts_are_of_each_token_or_refused() -> None:
    routed = RoutedExperts(layers=2, experts_per_token=2, id_bytes=1, ids=bytes(range(12)))
    made = Response.of(completion(routed_experts=routed), start=4, sample_s=0.0, tool_calls=())
    assert made.routed_experts == routed
    assert Response.model_validate(made.model_dump(mode="json")) == made
    with pytest.raises(ValidationError, match="routed experts of 3 tokens, for a response of 2"):
        Response.model_validate(made.model_dump() | {"end": 6, "logprobs": (-0.5,) * 2})
    with pytest.raises(ValidationError, match="no multiple of 4"):
        RoutedExperts(layers=2, experts_per_token=2, id_bytes=1, ids=bytes(range(11)))


def test_every_outcome_has_a_rule_and_only_what_says_nothing_of_the_policy_has_no_reward() -> None:
    assert set(OUTCOME_TABLE) == set(Outcome)
    without_reward = {outcome for outcome, rule in OUTCOME_TABLE.items() if rule.reward is None}
    assert without_reward == {Outcome.INFRASTRUCTURE, Outcome.GRADER_FAILURE, Outcome.BROKEN_TASK}
    for outcome, rule in OUTCOME_TABLE.items():
        assert rule.retried == (outcome in (Outcome.INFRASTRUCTURE, Outcome.GRADER_FAILURE))
        assert rule.in_baseline == (outcome not in without_reward)
        assert rule.trained <= rule.in_baseline


USAGE = Usage(prompt_tokens=100, completion_tokens=20, cached_tokens=80, cost_usd=0.25)


def chat_response(usage: Usage = USAGE) -> Response:
    completion = ChatCompletion(message={"role": "assistant", "content": "."}, finish_reason="stop", usage=usage)
    return Response.of_chat(completion, sample_s=0.5, tool_calls=())


def test_a_chat_api_s_trajectory_has_usage_in_place_of_tokens() -> None:
    longer = chat_response(Usage(prompt_tokens=150, completion_tokens=5))
    made = trajectory(chat_response(), longer, tokens=0)
    assert not made.token_exact
    assert (made.tokens, made.sampled_mask, made.all_responses) == (155, [], made.responses)
    assert made.responses[0].used == USAGE
    exact = trajectory(response(2, 4), response(7, 10))
    assert exact.token_exact
    assert (exact.tokens, exact.responses[1].used) == (10, Usage(prompt_tokens=7, completion_tokens=3))
    assert trajectory(tokens=0).tokens == 0


def test_token_ids_and_usage_do_not_mix() -> None:
    for responses, tokens in (((response(2, 4), chat_response()), 10), ((chat_response(),), 10)):
        with pytest.raises(ValidationError, match="in one trajectory"):
            trajectory(*responses, tokens=tokens)
    with pytest.raises(ValidationError, match="in one trajectory"):
        Trajectory(
            task_id="t",
            sample=0,
            agent="a",
            model="m",
            responses=(chat_response(),),
            branches=(Branch(token_ids=(1, 2), responses=(response(1, 2),)),),
        )
    with pytest.raises(ValidationError, match="and a span of token ids too"):
        trajectory(response(2, 4).model_copy(update={"usage": USAGE}))


def test_what_can_do_both_is_asked_by_token_ids() -> None:
    class Chat:
        async def chat(self) -> None: ...

    class Both(Chat):
        async def sample(self) -> None: ...

    assert is_chat(Chat())
    assert not is_chat(Both())
