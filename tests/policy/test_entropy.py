"""Estimates of the entropy from what a server reports."""

import math

from hypothesis import given
from hypothesis import strategies as st

from swe_aem.policy.entropy import TOP, estimated, truncated_entropy

logits = st.lists(st.floats(-8, 8), min_size=TOP, max_size=60)


def log_softmax(values):
    total = math.log(math.fsum(map(math.exp, values)))
    return [value - total for value in values]


@given(logits)
def test_truncated_is_a_lower_bound_and_whole_for_small_vocabularies(values):
    logprobs = log_softmax(values)
    whole = -math.fsum(math.exp(value) * value for value in logprobs)
    assert -1e-9 <= truncated_entropy(logprobs) <= whole + 1e-9
    small = log_softmax(values[:TOP])
    assert math.isclose(truncated_entropy(small), -math.fsum(math.exp(value) * value for value in small), abs_tol=1e-9)


@given(logits, st.randoms())
def test_the_order_of_alternatives_and_a_21st_make_no_difference(values, random):
    ordered = sorted(log_softmax(values), reverse=True)[: TOP + 1]
    shuffled = random.sample(ordered, len(ordered))
    assert truncated_entropy(shuffled) == truncated_entropy(ordered[:TOP])


def test_estimates_bear_their_estimator():
    alternatives = {f"token_id:{n}": -math.log(TOP) for n in range(TOP)}
    values, name = estimated([alternatives, alternatives], [-1.0, -2.0])
    assert name == "top20"
    assert all(math.isclose(value, math.log(TOP)) for value in values)
    no_numbers = [[{**alternatives, "token_id:0": one}] * 2 for one in (None, "-1", True, math.nan, -math.inf)]
    for missing in (None, [alternatives], [alternatives, {"token_id:1": -1.0}], *no_numbers):
        assert estimated(missing, [-1.0, -2.0]) == ((1.0, 2.0), "surprisal")
