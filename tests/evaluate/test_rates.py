"""The estimators, against brute force and against simulated runs."""

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swe_aem.core import Outcome
from swe_aem.evaluate.rates import bounds, clustered, mean_pass_at_k, pass_at_k, wilson
from swe_aem.evaluate.score import TaskScore, score
from swe_aem.testing.builders import make_trajectory

BROKEN = ((0, Outcome.UNRESOLVED, 0.0), (1, Outcome.BROKEN_TASK, None))
counts = st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n)))


def task(resolved: int, samples: int, faults: int = 0, id: str = "t") -> TaskScore:
    return TaskScore(task_id=id, samples=samples, resolved=resolved, faults=faults)


@given(counts)
def test_pass_at_k_is_the_share_of_all_draws_with_a_success(case: tuple[int, int, int]) -> None:
    n, c, k = case
    draws = list(itertools.combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_pass_at_k_of_many_samples_is_finite() -> None:
    assert 0 < pass_at_k(100_000, 1, 100) < 0.01
    with pytest.raises(ValueError, match="pass@3 of 1 resolved among 2"):
        pass_at_k(2, 1, 3)


@given(st.lists(counts, min_size=1, max_size=20))
def test_every_task_weighs_the_same(cases: list[tuple[int, int, int]]) -> None:
    tasks = [task(c, n) for n, c, _ in cases]
    estimate, left_out = mean_pass_at_k(tasks, 1)
    assert estimate is not None
    assert left_out == 0
    assert estimate.value == pytest.approx(sum(c / n for n, c, _ in cases) / len(cases))
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_tasks_with_too_few_samples_are_left_out_and_counted() -> None:
    estimate, left_out = mean_pass_at_k([task(1, 4), task(1, 1)], 2)
    assert estimate is not None
    assert (estimate.value, left_out) == (pytest.approx(0.5), 1)
    assert mean_pass_at_k([task(1, 1)], 2) == (None, 1)


@given(st.integers(1, 200), st.integers(0, 200))
def test_one_sample_per_task_gives_wilsons_interval(tasks: int, good: int) -> None:
    good = min(good, tasks)
    estimate = clustered([1.0] * good + [0.0] * (tasks - good), tasks)
    low, high = wilson(good / tasks, tasks)
    assert (estimate.low, estimate.high) == (pytest.approx(low), pytest.approx(high))


def test_wilson_is_the_textbooks() -> None:
    low, high = wilson(0.5, 10)
    assert (round(low, 4), round(high, 4)) == (0.2366, 0.7634)


def test_samples_that_agree_add_no_evidence_and_samples_that_differ_do() -> None:
    alike = clustered([1.0] * 10 + [0.0] * 10, 160)
    mixed = clustered([0.5] * 20, 160)
    assert alike.high - alike.low == pytest.approx(math.dist(*[[edge] for edge in wilson(0.5, 20)]))
    assert mixed.high - mixed.low < (alike.high - alike.low) / 2


@pytest.mark.parametrize(("tasks", "samples", "spread"), [(60, 1, 0.2), (60, 8, 0.4), (200, 4, 0.1)])
def test_intervals_cover_the_truth(tasks: int, samples: int, spread: float) -> None:
    """Tasks of random difficulty: about 95 of 100 intervals hold the true mean."""
    generator = random.Random(7)
    truth, covered, runs = 0.4, 0, 400
    for _ in range(runs):
        rates = []
        for _ in range(tasks):
            difficulty = truth + generator.choice((-spread, spread))
            rates.append(sum(generator.random() < difficulty for _ in range(samples)) / samples)
        estimate = clustered(rates, tasks * samples)
        covered += estimate.low <= truth <= estimate.high
    assert 0.92 <= covered / runs <= 0.99


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), min_size=1))
def test_bounds_enclose_what_is_known(cases: list[tuple[int, int, int]]) -> None:
    tasks = [task(min(c, n), n, f) for n, c, f in cases if n + f]
    if tasks:
        low, high = bounds(tasks)
        assert 0 <= low <= high <= 1
        if not any(one.faults for one in tasks):
            assert low == high


def test_missing_samples_widen_the_bounds() -> None:
    assert bounds([task(1, 2, 1)], wanted_samples=4) == (0.25, 0.75)


def test_a_broken_task_is_in_no_rate_and_no_bound() -> None:
    broken = [make_trajectory("b", n, outcome=outcome, reward=reward, error="why") for n, outcome, reward in BROKEN]
    scores = score([make_trajectory("a", 0), *broken])
    assert [one.task_id for one in scores.tasks] == ["a"]
    assert scores.broken_tasks == {"b": "why"}
    assert scores.turns == len(make_trajectory("a", 0).responses), (
        "samples that ended before it was known count nowhere"
    )
    assert bounds(scores.tasks) == (1.0, 1.0)
    assert bounds([]) == (0.0, 1.0)
