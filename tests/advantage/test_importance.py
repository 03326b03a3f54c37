"""Importance weights and the figures of the mismatch, against numbers worked out by hand."""

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the transformers extra")

from swe_aem.advantage.config import ImportanceSamplingConfig  # noqa: E402
from swe_aem.advantage.importance import importance_weights, log_ratios, mismatch, mismatch_figures  # noqa: E402
from swe_aem.core.settings import check  # noqa: E402
from swe_aem.errors import UserError  # noqa: E402

pytestmark = pytest.mark.torch

RATIOS = [[4.0, 0.25, 1.0, 9.0], [2.0, 1.0, 0.5, 0.1], [9.0, 9.0, 9.0, 9.0]]
SAMPLED = [[True, True, True, False], [True, True, False, False], [False, False, False, False]]
"""Geometric means of the rows: 1, the root of 2, and none."""


def config(mode: str, **bounds: float) -> ImportanceSamplingConfig:
    return check(ImportanceSamplingConfig, {"mode": mode, **bounds})


def tensors() -> tuple[Any, Any]:
    """Log ratios and where tokens were sampled."""
    sampled = torch.tensor(SAMPLED)
    return log_ratios(torch.tensor(RATIOS).log(), torch.zeros(3, 4), sampled), sampled


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (("none", {}), [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]),
        (("truncate", {"high": 2}), [[2, 0.25, 1, 1], [2, 1, 1, 1], [1, 1, 1, 1]]),
        (("truncate", {"low": 0.5, "high": 3}), [[3, 0.5, 1, 1], [2, 1, 1, 1], [1, 1, 1, 1]]),
        (("truncate", {"low": 0.5}), [[4, 0.5, 1, 1], [2, 1, 1, 1], [1, 1, 1, 1]]),
        (("mask", {"low": 0.5, "high": 5}), [[4, 0, 1, 1], [2, 1, 1, 1], [1, 1, 1, 1]]),
        (("mask", {"high": 2.5}), [[0, 0.25, 1, 1], [2, 1, 1, 1], [1, 1, 1, 1]]),
        (("sequence_geometric_mask", {"low": 0.9, "high": 1.1}), [[1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 1, 1]]),
        (("sequence_geometric_mask", {"low": 0.9, "high": 1.5}), [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]),
    ],
)
def test_weights(settings: tuple[str, dict[str, float]], expected: list[list[float]]) -> None:
    log_ratio, sampled = tensors()
    weights = importance_weights(log_ratio, sampled, config(settings[0], **settings[1]))
    assert torch.allclose(weights, torch.tensor(expected, dtype=torch.float32), rtol=1e-6)


@pytest.mark.parametrize("spread", [1, 30])
def test_truncation_from_above_alone_is_a_cap_bit_for_bit(spread: float) -> None:
    """Truncation at 2 is exp(old - sampler) clamped at 2, also where a ratio is next to nothing."""
    old, sampler = spread * torch.randn(7, 33), torch.randn(7, 33)
    sampled = torch.rand(7, 33) < 0.7
    expected = torch.exp(old - sampler).masked_fill(~sampled, 1.0).clamp(max=2)
    weights = importance_weights(log_ratios(old, sampler, sampled), sampled, config("truncate", high=2))
    assert torch.equal(weights, expected)


def test_figures() -> None:
    """Ratios 2, 1/2, 1: k3 is (1 - ln 2) + (ln 2 - 1/2) + 0 = 1/2 over three tokens."""
    sampled = torch.tensor([[True, True, True, False]])
    log_ratio = log_ratios(torch.tensor([[2.0, 0.5, 1.0, 7.0]]).log(), torch.zeros(1, 4), sampled)
    settings = config("truncate", low=0.6, high=1.5)
    figures = mismatch_figures(torch.stack(mismatch(log_ratio, sampled, settings)).unsqueeze(0), settings)
    assert figures == pytest.approx(
        {
            "importance/mean": 3.5 / 3,
            "importance/min": 0.5,
            "importance/max": 2.0,
            "importance/k3_kl": 0.5 / 3,
            "importance/abs_log_ratio": 2 * math.log(2) / 3,
            "importance/low_share": 1 / 3,
            "importance/high_share": 1 / 3,
        },
        rel=1e-6,
    )


def test_figures_are_those_of_all_processes() -> None:
    log_ratio, sampled = tensors()
    settings = config("mask", low=0.5, high=3)
    whole = torch.stack(mismatch(log_ratio, sampled, settings)).unsqueeze(0)
    parts = [torch.stack(mismatch(log_ratio[n : n + 1], sampled[n : n + 1], settings)) for n in range(3)]
    assert mismatch_figures(torch.stack(parts), settings) == pytest.approx(mismatch_figures(whole, settings))
    assert mismatch_figures(parts[2].unsqueeze(0), settings) == {}, "no token, no figure"


def test_a_dropped_trajectory_counts_by_its_tokens() -> None:
    """Of five sampled tokens two lie in the row whose mean, the root of 2, is too high."""
    log_ratio, sampled = tensors()
    settings = config("sequence_geometric_mask", low=0.9, high=1.1)
    figures = mismatch_figures(torch.stack(mismatch(log_ratio, sampled, settings)).unsqueeze(0), settings)
    assert (figures["importance/low_share"], figures["importance/high_share"]) == pytest.approx((0, 0.4))


def test_without_a_mode_nothing_is_out_of_bounds() -> None:
    log_ratio, sampled = tensors()
    figures = mismatch_figures(torch.stack(mismatch(log_ratio, sampled, config("none"))).unsqueeze(0), config("none"))
    assert figures["importance/k3_kl"] > 0
    assert not {"importance/low_share", "importance/high_share"} & figures.keys()


def test_a_token_that_the_sampler_never_draws_spoils_nothing() -> None:
    sampled = torch.ones(1, 2, dtype=torch.bool)
    log_ratio = log_ratios(torch.tensor([[-1.0, -1.0]]), torch.tensor([[-math.inf, -1.0]]), sampled)
    assert importance_weights(log_ratio, sampled, config("mask", high=2)).tolist() == [[0.0, 1.0]]
    assert importance_weights(log_ratio, sampled, config("truncate", high=2)).tolist() == [[2.0, 1.0]]
    figures = mismatch_figures(torch.stack(mismatch(log_ratio, sampled, config("none"))).unsqueeze(0), config("none"))
    assert all(math.isfinite(value) for value in figures.values())


def test_a_token_that_the_trainer_never_draws_has_no_weight_and_does_not_decide_its_row() -> None:
    """-50 counts as -20 in the mean of a row's four logarithms: exp(-5)."""
    sampled = torch.ones(1, 4, dtype=torch.bool)
    log_ratio = log_ratios(torch.tensor([[-50.0, 0, 0, 0]]), torch.zeros(1, 4), sampled)
    assert float(importance_weights(log_ratio, sampled, config("truncate", high=2))[0, 0]) < 1e-20
    for low, kept in ((math.exp(-5.1), 1), (math.exp(-4.9), 0)):
        settings = config("sequence_geometric_mask", low=low)
        assert importance_weights(log_ratio, sampled, settings).tolist() == [[kept] * 4]
    figures = mismatch_figures(torch.stack(mismatch(log_ratio, sampled, config("none"))).unsqueeze(0), config("none"))
    assert figures["importance/min"] == pytest.approx(math.exp(-50))
    assert figures["importance/k3_kl"] == pytest.approx(19 / 4, rel=1e-6)
    assert figures["importance/abs_log_ratio"] == 5


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"mode": "truncate"}, "mode truncate needs bounds: set low, high or both, e.g. high: 2"),
        ({"mode": "mask"}, r"e\.g\. low: 0\.5, high: 5"),
        ({"high": 2}, "bound nothing in mode none: set mode too"),
        ({"mode": "mask", "high": 0.28}, r"high is 0\.28: give a number \(at least 1\)"),
        ({"mode": "mask", "low": 2}, r"low is 2: give a number \(above 0, at most 1\)"),
        ({"mode": "sequence_mask"}, "one of none, truncate, mask, sequence_geometric_mask"),
    ],
)
def test_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        check(ImportanceSamplingConfig, values)
