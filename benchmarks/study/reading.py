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


def lines(regimes: Mapping[str, Arms], pilot: Mapping[str, Any] | None, real: Arms) -> Iterator[str]:
    """The sentences in their order. `real` are the runs in sandboxes."""
    paired = {regime: arms for regime, arms in regimes.items() if is_paired(arms, "AEM")}
    for regime, arms in paired.items():
        yield _learning(regime, arms, pilot)
    yield from _others(regimes)
    for regime, arms in paired.items():
        yield _entropy(regime, arms)
    if any(arms["AEM"] for arms in regimes.values()):
        yield _surprise(regimes)
        yield _modulated(regimes)
    if is_paired(real, "AEM"):
        yield _in_sandboxes(real)


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
    found = theory.phases(arms, "AEM")
    first = theory.first_step(arms["AEM"], "positive")
    early, late = (theory.over_steps(arms["AEM"], "positive", part) for part in (0, 3))
    return (
        f"**Entropy, about {regime} % at the start.** AEM's minus GRPO's, in thousandths of a nat: "
        f"{milli(found.first)} by the first update, with {first:.0%} of the advantages positive, "
        f"{_held(found.first, first)}; {milli(found.early)} in the first quarter of the steps, with {early:.0%}, "
        f"{_held(found.early, early)}; {milli(found.late)} in the last, with {late:.0%}, {_held(found.late, late)}."
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


def _in_sandboxes(arms: Arms) -> str:
    rates = " and ".join(
        f"{points(found)} {rate}" for rate in RATES[:2] if (found := difference(arms, "AEM", rate)) is not None
    )
    acts = 1 - theory.over_steps(arms["AEM"], "unmodulated")
    seeds = len(set(arms["AEM"]) & set(arms[BASE]))
    return (
        f"**In real sandboxes.** AEM minus GRPO, in points, {seeds} seeds: {rates}. There {acts:.0%} of the responses "
        "are modulated."
    )


def _held(found: Interval, positive: float) -> str:
    """Is a difference of entropy the one that the theory foretells where so many advantages are positive?"""
    if not found.excludes_0:
        return "which neither shows nor refutes the theory"
    foretold = (found.mean > 0) == (positive < 0.5)
    return "as the theory foretells" if foretold else "the opposite of what the theory foretells"
