"""pass@1 with its interval, unbiased pass@k, and the bounds that missing verdicts leave open. Pure functions.

Tasks are the unit: the samples of one task are alike, so twice the samples is not twice the evidence. pass@k is the
estimator of Chen et al. 2021 (arXiv 2107.03374); intervals are Wilson's, with the number of independent samples that
the spread between tasks speaks for (clustered errors for evaluations: Miller 2024, arXiv 2411.00640).
"""

import math
from collections.abc import Sequence

from swe_aem.core.base import Frozen
from swe_aem.evaluate.score import TaskScore

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


class Estimate(Frozen):
    """A rate with its 95 % interval; all in 0..1."""

    value: float
    low: float
    high: float


def pass_at_k(samples: int, resolved: int, k: int) -> float:
    """Chance that at least one of `k` samples resolves, drawn without replacement from `samples` with `resolved` good
    ones: 1 - C(n-c, k) / C(n, k), as a product of ratios that cannot overflow. Raises `ValueError` if k > samples."""
    if not 1 <= k <= samples or not 0 <= resolved <= samples:
        raise ValueError(f"pass@{k} of {resolved} resolved among {samples} samples")
    if samples - resolved < k:
        return 1.0
    failing = 1.0
    for i in range(k):
        failing *= (samples - resolved - i) / (samples - i)
    return 1.0 - failing


def mean_pass_at_k(tasks: Sequence[TaskScore], k: int) -> tuple[Estimate | None, int]:
    """pass@k averaged over the tasks that have at least `k` samples, and how many tasks have fewer; None if all have.

    Every task weighs the same, however many samples it has.
    """
    values = [pass_at_k(task.samples, task.resolved, k) for task in tasks if task.samples >= k]
    if not values:
        return None, len(tasks)
    # k samples or more of a task never speak for more than one draw of pass@k per k samples.
    most = sum(task.samples // k for task in tasks if task.samples >= k)
    return clustered(values, most), len(tasks) - len(values)


def clustered(values: Sequence[float], most_samples: int) -> Estimate:
    """Mean of per-task rates in 0..1 with a 95 % Wilson interval.

    The interval's sample size is that at which independent samples would spread as much as the tasks' mean does,
    p (1 - p) / var(mean): the number of tasks if each has one sample, more if samples of a task disagree, never more
    than `most_samples`. At 0 and 1, where nothing spreads, it is the number of tasks.
    """
    count = len(values)
    mean = math.fsum(values) / count
    variance = math.fsum((value - mean) ** 2 for value in values) / count / count
    spread = mean * (1 - mean)
    size = float(count) if spread <= 1e-12 else min(most_samples, spread / max(variance, 1e-12))
    low, high = wilson(mean, size)
    return Estimate(value=mean, low=low, high=high)


def wilson(rate: float, size: float, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a rate among `size` independent samples (Wilson 1927)."""
    denominator = 1 + z * z / size
    centre = (rate + z * z / (2 * size)) / denominator
    half = z * math.sqrt(rate * (1 - rate) / size + z * z / (4 * size * size)) / denominator
    return max(0.0, min(centre - half, rate)), min(1.0, max(centre + half, rate))


def bounds(tasks: Sequence[TaskScore], wanted_samples: int | None = None) -> tuple[float, float]:
    """pass@1 over all tasks if every sample without a verdict had failed, and if every one had resolved.

    `wanted_samples` is what each task should have; samples that are not in the store at all count as missing too.
    Without tasks nothing is known: 0 and 1.
    """
    if not tasks:
        return 0.0, 1.0
    low, high = [], []
    for task in tasks:
        size = max(task.samples + task.faults, wanted_samples or 0)
        low.append(task.resolved / size)
        high.append((size - (task.samples - task.resolved)) / size)
    return math.fsum(low) / len(tasks), math.fsum(high) / len(tasks)
