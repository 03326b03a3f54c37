"""Two runs on the same tasks: the difference of pass@1, paired task by task.

The interval and the p-value come from a bootstrap over tasks (Efron 1979), which keeps both runs' rates of a task
together; with one sample per task and run, McNemar's exact test (1947) stands beside it.
"""

import math
from collections.abc import Sequence

from swe_aem.core.base import Frozen
from swe_aem.evaluate.score import Scores

RESAMPLES = 10_000
FEW_TASKS = 30
"""Below so many tasks a bootstrap sees too little: its intervals are too narrow."""


class Comparison(Frozen):
    """Second run minus first run, over the tasks that both have verdicts for."""

    tasks: int
    first: float
    """pass@1 of the first run on these tasks."""
    second: float
    difference: float
    low: float
    """95 % interval of the difference."""
    high: float
    p_value: float
    """Two-sided: how often a resampled difference lies on the other side of 0."""
    mcnemar_p: float | None
    """Exact McNemar test; None where a task has more than one sample."""
    gained: tuple[str, ...]
    """Tasks with a higher rate in the second run."""
    lost: tuple[str, ...]
    only_first: int
    """Tasks that have verdicts in the first run alone, and so are left out."""
    only_second: int


def compare(first: Scores, second: Scores, *, resamples: int = RESAMPLES, seed: int = 0) -> Comparison | None:
    """Compare two runs; None if they share no task that both have a verdict for."""
    a, b = first.by_id(), second.by_id()
    common = sorted(a.keys() & b.keys())
    if not common:
        return None
    differences = [b[id].rate - a[id].rate for id in common]
    low, high, p_value = paired_bootstrap(differences, resamples=resamples, seed=seed)
    single = all(a[id].samples == b[id].samples == 1 for id in common)
    gained = tuple(id for id, change in zip(common, differences, strict=True) if change > 0)
    lost = tuple(id for id, change in zip(common, differences, strict=True) if change < 0)
    return Comparison(
        tasks=len(common),
        first=math.fsum(a[id].rate for id in common) / len(common),
        second=math.fsum(b[id].rate for id in common) / len(common),
        difference=math.fsum(differences) / len(common),
        low=low,
        high=high,
        p_value=p_value,
        mcnemar_p=mcnemar(len(gained), len(lost)) if single else None,
        gained=gained,
        lost=lost,
        only_first=len(a.keys() - b.keys()),
        only_second=len(b.keys() - a.keys()),
    )


def paired_bootstrap(differences: Sequence[float], *, resamples: int, seed: int) -> tuple[float, float, float]:
    """(low, high, p) of the mean of per-task differences: percentiles over resampled task sets.

    p counts resampled means on the other side of 0, twice, with one added to count and total so that it is never 0.
    The same seed gives the same numbers.
    """
    import numpy as np

    values = np.asarray(differences, dtype=np.float64)
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    block = max(1, (1 << 22) // len(values))  # bounds the memory of one draw
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        means[start : start + size] = values[generator.integers(0, len(values), (size, len(values)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    # A resampled mean of exactly 0 speaks for neither side, so it counts on both.
    tolerance = 1e-12
    other = min(int((means <= tolerance).sum()), int((means >= -tolerance).sum()))
    return float(low), float(high), min(1.0, 2 * (other + 1) / (resamples + 1))


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact p-value: were gains and losses as likely as heads and tails?"""
    flips = gained + lost
    if flips == 0:
        return 1.0
    tail = sum(math.comb(flips, i) for i in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**flips)
