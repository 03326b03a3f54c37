"""A response that several requests sample: what each asks for, and what they make together."""

import pytest

from swe_aem.core import Completion, RoutedExperts, SamplingParams
from swe_aem.policy.continued import Continued

PROMPT = (1, 2, 3)


def part(tokens: int, version: int, *, reason: str = "length", estimator: str | None = "surprisal") -> Completion:
    logprobs = (-0.5,) * tokens
    entropies = None if estimator is None else (0.5 if estimator == "surprisal" else 0.75,) * tokens
    return Completion.model_validate({
        "token_ids": tuple(range(10 * version, 10 * version + tokens)), "logprobs": logprobs, "finish_reason": reason,
        "version": version, "entropies": entropies, "entropy_estimator": estimator,
    })  # fmt: skip


def made(*parts: Completion, max_tokens: int = 10, seed: int | None = 5) -> Continued:
    response = Continued(PROMPT, SamplingParams(max_tokens=max_tokens, seed=seed))
    for one in parts:
        response.add(one, is_cut=True)
    return response


def test_a_whole_response_of_one_request_is_that_one():
    response = made()
    assert (response.prompt_ids, response.params.seed, response.is_whole) == (PROMPT, 5, False)
    whole = part(3, 1)
    response.add(whole, is_cut=False)
    assert response.is_whole
    assert response.completion() is whole


def test_the_next_request_asks_for_the_rest_with_another_seed():
    once, twice = made(part(2, 1)), made(part(2, 1), part(3, 2))
    assert once.prompt_ids == (*PROMPT, 10, 11)
    assert twice.prompt_ids == (*PROMPT, 10, 11, 20, 21, 22)
    assert (once.params.max_tokens, twice.params.max_tokens) == (8, 5)
    assert len({5, once.params.seed, twice.params.seed}) == 3
    assert once.params == made(part(2, 1)).params, "the same cut gives the same seed"
    assert made(part(2, 1), seed=None).params.seed is None


def test_versions_begin_where_they_change():
    response = made(part(2, 1), part(3, 1), part(1, 2), part(2, 4, reason="stop"))
    whole = response.completion()
    assert whole.token_ids == (10, 11, 10, 11, 12, 20, 40, 41)
    assert (whole.version, [(span.start, span.version) for span in whole.spans]) == (1, [(5, 2), (6, 4)])
    assert whole.finish_reason == "stop"
    assert len(whole.logprobs) == 8
    assert whole.entropies == (0.5,) * 8


def test_a_cut_after_the_last_token_leaves_nothing_to_ask_for():
    assert made(part(2, 1, reason="stop")).is_whole
    assert made(part(4, 1), part(6, 2)).is_whole
    assert not made(part(4, 1), part(5, 2)).is_whole


def routed(one: Completion, **shape: int) -> Completion:
    """The part with routed experts, which are its token ids in each of two layers."""
    ids = bytes(token for token in one.token_ids for _ in range(2))
    kept = RoutedExperts.model_validate({"layers": 2, "experts_per_token": 1, "id_bytes": 1, "ids": ids} | shape)
    return one.model_copy(update={"routed_experts": kept})


def test_routed_experts_of_all_parts_are_joined():
    whole = made(routed(part(2, 1)), routed(part(3, 2)), routed(part(1, 4, reason="stop"))).completion()
    assert whole.routed_experts.ids == bytes([10, 10, 11, 11, 20, 20, 21, 21, 22, 22, 40, 40])
    assert whole.routed_experts.tokens == len(whole.token_ids)
    assert made(routed(part(2, 1)), part(3, 2)).completion().routed_experts is None
    with pytest.raises(ValueError, match="models of different shapes"):
        made(routed(part(2, 1)), routed(part(3, 2), layers=1, experts_per_token=2)).completion()


def test_estimates_of_two_estimators_are_not_mixed():
    assert made(part(1, 1, estimator="top20"), part(1, 2, estimator="top20")).completion().entropies == (0.75, 0.75)
    mixed = made(part(1, 1, estimator="top20"), part(1, 2)).completion()
    assert (mixed.entropies, mixed.entropy_estimator) == ((0.5, 0.5), "surprisal")
    none = made(part(1, 1, estimator=None), part(1, 2, estimator=None)).completion()
    assert (none.entropies, none.entropy_estimator) == (None, None)
