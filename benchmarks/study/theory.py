"""What AEM's theory foretells, held against what was measured: numbers of each regime. Pure functions of results."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from study.measures import Interval, correlation, over_seeds
from study.results import Arms, Result
from study.settings import BASE
from swe_aem.evaluate import wilson


class States(NamedTuple):
    """α - 1 against H - S in states that were sampled again."""

    step: int
    r: Interval
    """Mean of the runs' r, with an interval over seeds."""
    agree: int
    signs: int
    low: float
    high: float
    """Wilson's interval of the share of signs that agree."""


class Foretold(NamedTuple):
    """A(1-α) against the change of entropy that an update made."""

    of_responses: Interval
    """r over the responses of a step, mean over steps; an interval over seeds."""
    of_steps: Interval
    """r over the steps of a run, of the means of both."""
    of_relative: Interval
    """r of A(S-H) and the change, in the states that were sampled again."""


class Phases(NamedTuple):
    """The entropy of an arm minus that of plain GRPO, paired, in nats per token."""

    first: Interval
    """After the first update alone, which all arms make from the same policy and the same trajectories."""
    early: Interval
    """Mean over the first quarter of the steps."""
    late: Interval
    """Mean over the last quarter."""


def states(arm: Mapping[int, Result]) -> list[States]:
    """By step; of runs that have them."""
    steps = sorted({one["step"] for result in arm.values() for one in result["states"]})
    return [_states_at(arm, step) for step in steps]


def _states_at(arm: Mapping[int, Result], step: int) -> States:
    rows = [one for result in arm.values() for one in result["states"] if one["step"] == step]
    agree, signs = sum(one["agree"] for one in rows), sum(one["signs"] for one in rows)
    low, high = wilson(agree / signs, signs) if signs else (0.0, 1.0)
    return States(step, over_seeds([one["r"] for one in rows]), agree, signs, low, high)


def foretold(arm: Mapping[int, Result]) -> Foretold:
    """Over all runs of an arm."""
    steps = [result["steps"] for result in arm.values()]
    return Foretold(
        over_seeds([_mean(one["r"]) for one in steps]),
        over_seeds([correlation(one["foretold"], one["change"]) for one in steps]),
        over_seeds([_mean([state["r_change"] for state in result["states"]]) for result in arm.values()]),
    )


def phases(arms: Arms, name: str) -> Phases:
    """An arm against plain GRPO."""
    return Phases(
        paired(arms, name, lambda steps: steps["change"][0]),
        paired(arms, name, lambda steps: _mean(quarter(steps["entropy"], 0))),
        paired(arms, name, lambda steps: _mean(quarter(steps["entropy"], 3))),
    )


def paired(arms: Arms, name: str, figure: Callable[[Mapping[str, Any]], float]) -> Interval:
    """A figure of the steps of an arm's runs minus that of plain GRPO's with the same seed."""
    seeds = sorted(set(arms[name]) & set(arms[BASE]))
    return over_seeds([figure(arms[name][seed]["steps"]) - figure(arms[BASE][seed]["steps"]) for seed in seeds])


def quarter(values: Sequence[float], number: int) -> Sequence[float]:
    """The quarter of that number, from 0."""
    size = max(len(values) // 4, 1)
    return values[number * size :] if number == 3 else values[number * size : (number + 1) * size]


def first_step(arm: Mapping[int, Result], name: str) -> float:
    """Mean of a column's first value over runs."""
    return fmean(result["steps"][name][0] for result in arm.values())


def over_steps(arm: Mapping[int, Result], name: str, part: int | None = None) -> float:
    """Mean of a column over runs and steps, or over one quarter of the steps."""
    several = [result["steps"][name] for result in arm.values()]
    return fmean(_mean(values if part is None else quarter(values, part)) for values in several)


def _mean(values: Sequence[float | None]) -> float:
    """The mean of those that are numbers."""
    known = [one for one in values if one is not None]
    return fmean(known) if known else float("nan")
