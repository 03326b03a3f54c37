"""Correlation, its bootstrap and agreement of signs: against numpy, against what is known, and what they promise."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the transformers extra")
numpy = pytest.importorskip("numpy")

from swe_aem.advantage.diagnostics import pearson, pearson_interval, sign_agreement  # noqa: E402

pytestmark = pytest.mark.torch

VALUE = st.integers(-1000, 1000).map(lambda n: n / 64)
PAIRS = st.lists(st.tuples(VALUE, VALUE), min_size=2, max_size=20)


def columns(pairs: list[tuple[float, float]]) -> Any:
    """Two tensors."""
    return torch.tensor(pairs, dtype=torch.float64).reshape(-1, 2).unbind(1)


def interval(x: Any, y: Any, cluster: Any, seed: int = 0) -> tuple[float, float]:
    """With few resamples."""
    return pearson_interval(x, y, cluster, torch.Generator().manual_seed(seed), resamples=400)


@given(PAIRS)
def test_r_is_that_of_numpy(pairs: list[tuple[float, float]]) -> None:
    x, y = columns(pairs)
    r = pearson(x, y)
    if x.unique().numel() < 2 or y.unique().numel() < 2:
        assert math.isnan(r)
    else:
        assert r == pytest.approx(numpy.corrcoef(x, y)[0, 1], abs=1e-9)


@given(PAIRS, st.floats(0.01, 1e6), st.floats(-100.0, 100.0))
def test_r_ignores_scale_and_shift_and_follows_the_sign(
    pairs: list[tuple[float, float]], scale: float, shift: float
) -> None:
    x, y = columns(pairs)
    r = pearson(x, y)
    assert pearson(x * scale, y) == pytest.approx(r, abs=1e-9, nan_ok=True)
    assert pearson(x + shift, y) == pytest.approx(r, abs=1e-6, nan_ok=True)
    assert pearson(-x, y) == pytest.approx(-r, abs=1e-9, nan_ok=True)
    assert pearson(y, x) == pytest.approx(r, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("size", [0, 1])
def test_too_few_points_have_no_r(size: int) -> None:
    values = torch.arange(float(size))
    assert math.isnan(pearson(values, values))
    assert all(math.isnan(bound) for bound in interval(values, values, torch.arange(size)))


def test_a_line_is_certain() -> None:
    x = torch.arange(10.0)
    assert pearson(x, 3 - 2 * x) == pytest.approx(-1.0)
    assert interval(x, 3 - 2 * x, torch.arange(10)) == pytest.approx((-1.0, -1.0))


def test_the_interval_covers_the_truth() -> None:
    """Pairs of a normal distribution with r 0.6: 95 % intervals of 40 points, 100 times."""
    generator = torch.Generator().manual_seed(1)
    covered = 0
    for seed in range(100):
        x, noise = torch.randn(2, 40, generator=generator, dtype=torch.float64)
        low, high = interval(x, 0.6 * x + 0.8 * noise, torch.arange(40), seed)
        covered += low <= 0.6 <= high
    assert covered >= 85


def test_copies_in_a_cluster_are_no_evidence() -> None:
    x, noise = torch.randn(2, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    y = x + noise
    cluster = torch.arange(12)
    once = interval(x, y, cluster)
    tenfold = interval(x.repeat(10), y.repeat(10), cluster.repeat(10))
    as_if_independent = interval(x.repeat(10), y.repeat(10), torch.arange(120))
    assert tenfold == pytest.approx(once)
    assert as_if_independent[1] - as_if_independent[0] < 0.6 * (once[1] - once[0])


def test_one_cluster_has_no_interval() -> None:
    x = torch.arange(5.0)
    assert all(math.isnan(bound) for bound in interval(x, x, torch.zeros(5, dtype=torch.long)))


@given(PAIRS)
def test_signs_against_counting(pairs: list[tuple[float, float]]) -> None:
    x, y = columns(pairs)
    both = [(a, b) for a, b in pairs if a and b]
    assert sign_agreement(x, y) == (sum((a > 0) == (b > 0) for a, b in both), len(both))
    agree, of = sign_agreement(x, y)
    assert sign_agreement(x, -y) == (of - agree, of)


def test_zeros_and_nan_have_no_sign() -> None:
    x = torch.tensor([1.0, 0.0, -2.0, float("nan"), 5.0])
    y = torch.tensor([2.0, 3.0, -1.0, 1.0, -1e-300], dtype=torch.float64)
    assert sign_agreement(x, y) == (2, 3)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="must be the same"):
        pearson(torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match="must be the same"):
        sign_agreement(torch.zeros(2, 2), torch.zeros(2, 2))
