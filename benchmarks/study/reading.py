"""What the numbers say, a sentence or two for each claim, whatever it is."""

from collections.abc import Iterator, Mapping
from typing import Any

from study import theory
from study.formats import milli, points
from study.measures import Interval
from study.results import RATES, Arms, difference, is_paired
from study.settings import ARMS, BASE

PAPER_R, PAPER_AGREE, PAPER_SIGNS = 0.63, 55, 64
"""What the paper reports of α - 1 and H - S."""


def lines(regimes: Mapping[str, Arms], pilot: Mapping[str, Any] | None) -> Iterator[str]:
    """The sentences in their order."""
    paired = {regime: arms for regime, arms in regimes.items() if is_paired(arms, "AEM")}
    for regime, arms in paired.items():
        yield _learning(regime, arms, pilot)
    yield from _others(regimes)
    for regime, arms in paired.items():
        yield _entropy(regime, arms)
    if any(arms["AEM"] for arms in regimes.values()):
        yield _surprise(regimes)
        yield _modulated(regimes)


def _learning(regime: str, arms: Arms, pilot: Mapping[str, Any] | None) -> str:
    found = difference(arms, "AEM", RATES[0])
    assert found is not None
    seeds = len(set(arms["AEM"]) & set(arms[BASE]))
    verdict = "a difference" if found.excludes_0 else "no difference that these seeds can see"
    seen = ""
    if pilot is not None:
        seen = f"; sixteen can see {100 * pilot['regimes'][regime][RATES[0]]['detectable']:.1f} points"
    return (
        f"**Learning, about {regime} % at the start.** Sampled pass@1 of AEM minus that of GRPO: {points(found)} "
        f"points, {seeds} seeds: {verdict}{seen}."
    )


def _others(regimes: Mapping[str, Arms]) -> Iterator[str]:
    """Arms other than AEM whose rate differs from GRPO's by more than its interval."""
    compared = {
        f"{arm} at {regime} %": difference(arms, arm, RATES[0])
        for regime, arms in regimes.items()
        for arm in ARMS
        if arm != "AEM" and is_paired(arms, arm)
    }
    found = [f"{name} ({points(one)})" for name, one in compared.items() if one is not None and one.excludes_0]
    if compared:
        listed = "; ".join(found) if found else "none"
        yield f"**The other arms.** Differences of sampled pass@1 to GRPO that exclude 0, of {len(compared)}: {listed}."


def _entropy(regime: str, arms: Arms) -> str:
    """What became of the theory's prediction."""
    phases = theory.phases(arms, "AEM")
    first, last = (theory.over_steps(arms["AEM"], "positive", part) for part in (0, 3))
    return (
        f"**Entropy, about {regime} % at the start.** In the first quarter of the steps, {first:.0%} of the advantages "
        f"are positive, and AEM's entropy is {_word(phases.early)} GRPO's ({milli(phases.early)} thousandths of a "
        f"nat). In the last, {last:.0%} are, and it is {_word(phases.late)} GRPO's ({milli(phases.late)})."
    )


def _surprise(regimes: Mapping[str, Arms]) -> str:
    found = [one for arms in regimes.values() for one in theory.states(arms["AEM"])]
    agree, signs = sum(one.agree for one in found), sum(one.signs for one in found)
    low, high = min(one.r.mean for one in found), max(one.r.mean for one in found)
    return (
        f"**α - 1 and H - S.** r is {low:+.2f} to {high:+.2f} by regime and step; the paper has +{PAPER_R}. "
        f"Signs agree in {agree:,} of {signs:,} ({agree / signs:.0%}), where it has {PAPER_AGREE} of {PAPER_SIGNS} "
        f"({PAPER_AGREE / PAPER_SIGNS:.0%})."
    )


def _modulated(regimes: Mapping[str, Arms]) -> str:
    shares = [1 - theory.over_steps(arms["AEM"], "unmodulated") for arms in regimes.values() if arms["AEM"]]
    return f"**AEM acts.** {min(shares):.0%} to {max(shares):.0%} of the trained responses are modulated, by regime."


def _word(found: Interval) -> str:
    return ("above" if found.mean > 0 else "below") if found.excludes_0 else "not measurably apart from"
