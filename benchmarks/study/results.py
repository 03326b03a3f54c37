"""Results of runs as numbers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from study.measures import Interval, Numbers, over_seeds_and_tasks
from study.settings import ARMS, BASE, REGIMES, SAMPLES, SEEDS, read_result, run_of

Result = Mapping[str, Any]
Arms = Mapping[str, Mapping[int, Result]]
"""The results of one regime, by arm and seed."""
RATES = ("sampled pass@1", "greedy", "pass@8")


def task_rates(evaluation: Mapping[str, str]) -> dict[str, Numbers]:
    """(tasks,) rates of each held-out task, by the names in `RATES`. Eight samples are all there are, so that pass@8 is
    whether one of them resolved it."""
    solved = np.array([int(digit) for digit in evaluation["solved"]])
    return {
        "sampled pass@1": solved / SAMPLES,
        "greedy": np.array([float(digit) for digit in evaluation["greedy"]]),
        "pass@8": (solved > 0).astype(float),
    }


def read_all(directory: Path, seeds: int = SEEDS) -> dict[str, dict[str, dict[int, Result]]]:
    """The results that there are, by regime, arm and seed."""
    return {
        regime: {
            arm: {
                seed: found
                for seed in range(seeds)
                if (found := read_result(run_of(regime, arm, seed), directory)) is not None
            }
            for arm in ARMS
        }
        for regime in REGIMES
    }


def differences(arm: Mapping[int, Result], base: Mapping[int, Result], rate: str) -> Numbers | None:
    """(seeds, tasks) of the seeds that both have, after training; None if there is none."""
    seeds = sorted(set(arm) & set(base))
    if not seeds:
        return None
    return np.stack([task_rates(arm[seed]["after"])[rate] - task_rates(base[seed]["after"])[rate] for seed in seeds])


def difference(arms: Arms, arm: str, rate: str) -> Interval | None:
    """An arm's rate minus plain GRPO's, paired by seed and task; None without a pair."""
    found = differences(arms[arm], arms[BASE], rate)
    return None if found is None else over_seeds_and_tasks(found)


def is_paired(arms: Arms, arm: str) -> bool:
    """Is it another arm than plain GRPO, with two seeds or more that both have?"""
    return arm != BASE and len(set(arms[arm]) & set(arms[BASE])) > 1
