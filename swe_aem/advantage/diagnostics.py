"""How well one number predicts another: correlation, its bootstrap over clusters, agreement of signs. Pure functions.

`swe_aem.train.analysis.diagnose` uses them for the diagnostics of AEM.
"""

import torch
from torch import Tensor

_NOTHING = 1e-12
"""Variance, of values of at most 1 in size, below which they are taken for a constant with rounding errors."""


def pearson(x: Tensor, y: Tensor) -> float:
    """Pearson's r of `x` and `y`, both (N,) float; NaN where one of them is constant, as with fewer than two values.

    Raises `ValueError` for shapes that differ.
    """
    _require_alike(x, y)
    return float(_r(_moments(_unit(x), _unit(y)).sum(0)))


def pearson_interval(
    x: Tensor, y: Tensor, cluster: Tensor, generator: torch.Generator, *, resamples: int = 2000
) -> tuple[float, float]:
    """95 % percentile bootstrap of Pearson's r that draws whole clusters; each value its own is the plain bootstrap.

    `x` and `y` are (N,) float, `cluster` (N,) long, any numbers in any order. Resamples without an r are left out; NaN
    and NaN with fewer than two clusters, or if no resample has an r. Raises `ValueError` for shapes that differ.
    """
    _require_alike(x, y)
    _require_alike(x, cluster)
    numbers, member = torch.unique(cluster, return_inverse=True)
    count = numbers.numel()
    if count < 2:
        return float("nan"), float("nan")
    by_cluster = torch.zeros(count, 6, dtype=torch.float64).index_add_(0, member, _moments(_unit(x), _unit(y)))
    drawn = torch.randint(count, (resamples, count), generator=generator)
    times = torch.zeros(resamples, count, dtype=torch.float64)
    times.scatter_add_(1, drawn, torch.ones(resamples, count, dtype=torch.float64))
    found = _r(times @ by_cluster)
    found = found[~found.isnan()]
    if not found.numel():
        return float("nan"), float("nan")
    low, high = torch.quantile(found, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


def sign_agreement(x: Tensor, y: Tensor) -> tuple[int, int]:
    """In how many places `x` and `y`, both (N,), have the same sign, and in how many both have one: zeros and NaN are
    in neither count. Raises `ValueError` for shapes that differ."""
    _require_alike(x, y)
    signs = torch.sign(x.nan_to_num(0.0)) * torch.sign(y.nan_to_num(0.0))
    return int((signs > 0).sum()), int((signs != 0).sum())


def _moments(x: Tensor, y: Tensor) -> Tensor:
    """(N, 6): of each pair what sums to count, first and second moments."""
    return torch.stack([torch.ones_like(x), x, y, x * x, y * y, x * y], dim=1)


def _r(sums: Tensor) -> Tensor:
    """(...,) r from (..., 6) sums of moments; NaN where a variance is none."""
    mean = sums[..., 1:] / sums[..., :1]
    x, y, xx, yy, xy = mean.unbind(-1)
    variance_x, variance_y = xx - x * x, yy - y * y
    r = (xy - x * y) / (variance_x.clamp(min=0).sqrt() * variance_y.clamp(min=0).sqrt())
    defined = (variance_x > _NOTHING) & (variance_y > _NOTHING)
    return torch.where(defined, r.clamp(-1, 1), torch.full_like(r, float("nan")))


def _unit(values: Tensor) -> Tensor:
    """Centred, and scaled to at most 1 in size, so that no moment overflows or vanishes; r does not change."""
    if not values.numel():
        return values.double()
    centred = values.double() - values.double().mean()
    size = centred.abs().max()
    return centred / size if size > _NOTHING * values.double().abs().max() else torch.zeros_like(centred)


def _require_alike(x: Tensor, y: Tensor) -> None:
    if x.shape != y.shape or x.dim() != 1:
        raise ValueError(f"{tuple(x.shape)} and {tuple(y.shape)} must be the same (N,)")
