"""Paired comparison: the bootstrap, the exact test, and which tasks are compared at all."""

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swe_aem.evaluate.compare import compare, mcnemar, paired_bootstrap
from swe_aem.evaluate.score import Scores, TaskScore


def scores(**rates: tuple[int, int]) -> Scores:
    tasks = tuple(TaskScore(task_id=id, samples=n, resolved=c, faults=not n) for id, (c, n) in sorted(rates.items()))
    return Scores(tasks=tasks, outcomes={}, broken_tasks={}, turns=0, sampled_tokens=0, agent_s=0)


def test_only_tasks_with_verdicts_in_both_runs_are_compared() -> None:
    found = compare(scores(a=(0, 1), b=(1, 1), c=(1, 1)), scores(a=(1, 1), b=(1, 1), d=(1, 1), c=(0, 0)))
    assert found is not None
    assert (found.tasks, found.only_first, found.only_second) == (2, 1, 1)
    assert (found.first, found.second, found.gained, found.lost) == (0.5, 1.0, ("a",), ())
    assert found.mcnemar_p == 1.0
    assert compare(scores(a=(1, 1)), scores(b=(1, 1))) is None


def test_no_exact_test_for_several_samples() -> None:
    found = compare(scores(a=(1, 2)), scores(a=(2, 2)))
    assert found is not None
    assert found.mcnemar_p is None


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=1, max_size=40), st.integers(0, 5))
def test_the_same_seed_gives_the_same_numbers(differences: list[float], seed: int) -> None:
    first = paired_bootstrap(differences, resamples=200, seed=seed)
    assert first == paired_bootstrap(differences, resamples=200, seed=seed)
    low, high, p = first
    assert min(differences) - 1e-9 <= low <= high <= max(differences) + 1e-9
    assert 0 < p <= 1


def test_no_difference_is_no_evidence_and_a_large_one_is() -> None:
    assert paired_bootstrap([0.0] * 50, resamples=500, seed=0)[2] == 1.0
    assert paired_bootstrap([1.0] * 40 + [0.0] * 10, resamples=500, seed=0)[2] < 0.01


def test_the_interval_covers_the_true_difference() -> None:
    generator, covered, runs = random.Random(3), 0, 200
    for run in range(runs):
        differences = [generator.choice((-1.0, 0.0, 0.0, 1.0, 1.0)) for _ in range(100)]
        low, high, _ = paired_bootstrap(differences, resamples=300, seed=run)
        covered += low <= 0.2 <= high
    assert 0.9 <= covered / runs <= 0.99


@given(st.integers(0, 30), st.integers(0, 30))
def test_mcnemar_is_the_two_sided_binomial_test(gained: int, lost: int) -> None:
    flips = gained + lost
    row = [Fraction(1)]
    for _ in range(flips):
        row = [a + b for a, b in zip([Fraction(0), *row], [*row, Fraction(0)], strict=True)]
    as_extreme = sum(count for heads, count in enumerate(row) if abs(2 * heads - flips) >= abs(gained - lost))
    assert mcnemar(gained, lost) == pytest.approx(float(as_extreme / 2**flips))
