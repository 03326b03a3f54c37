"""The study's statistics: paired differences with intervals, and what the design can see. Pure functions."""

import math
from collections.abc import Sequence
from functools import cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
POWER = 0.8

Numbers = NDArray[np.float64]


class Interval(NamedTuple):
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def excludes_0(self) -> bool:
        """Is it a difference, as far as 95 % go?"""
        return self.low > 0 or self.high < 0


def over_seeds(values: Sequence[float | None]) -> Interval:
    """A bootstrap over seeds, those without a number left out; NaN bounds for fewer than two."""
    known = [one for one in values if one is not None and not math.isnan(one)]
    if len(known) > 1:
        return over_seeds_and_tasks(np.array(known)[:, None])
    return Interval(known[0] if known else math.nan, math.nan, math.nan)


def over_seeds_and_tasks(differences: Numbers) -> Interval:
    """A bootstrap of (seeds, tasks) that draws both, seeds and tasks, independently of each other. With one task, seeds
    alone are drawn."""
    of_seeds, of_tasks = (_drawn(size, axis) for axis, size in enumerate(differences.shape))
    means = ((of_seeds @ differences) * of_tasks).sum(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(differences.mean()), float(low), float(high))


@cache
def _drawn(size: int, axis: int) -> Numbers:
    """(RESAMPLES, size): the share that each of so many things has in a resample; other random numbers on each axis."""
    return np.random.default_rng((axis, size)).multinomial(size, np.full(size, 1 / size), RESAMPLES) / size


def deviation(several: Sequence[Sequence[float]]) -> float:
    """Standard deviation of one difference between two runs of the same arm, pooled over lists of such differences:
    their mean is 0, for neither run of a pair is the better one."""
    values = [one for differences in several for one in differences]
    return math.sqrt(sum(one**2 for one in values) / len(values))


def detectable(deviation: float, pairs: int) -> float:
    """The smallest true mean of so many paired differences that a two-sided test at 5 % finds in 80 % of studies, by
    the normal approximation."""
    normal = NormalDist()
    return (normal.inv_cdf(0.975) + normal.inv_cdf(POWER)) * deviation / math.sqrt(pairs)


def correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Pearson's r; NaN where one is constant."""
    one, other = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if len(one) < 3 or not one.std() or not other.std():
        return math.nan
    return float(np.corrcoef(one, other)[0, 1])
