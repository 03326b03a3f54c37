"""Is AEM doing anything? One sentence from a training run's numbers, and the numbers that it rests on."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from swe_aem.advantage.config import AEMConfig
from swe_aem.view.training_run import TrainingRun

_DIAGNOSIS = ("diagnose.json", "diagnose/diagnose.json")
"""Where a run's diagnosis lies, if it was written into the run."""
_FEW = 0.01
"""A share, or a deviation of α, below this is as good as none."""
_AEM = AEMConfig().estimator


class Evidence(NamedTuple):
    """A number that the answer rests on."""

    what: str
    mean: str
    """Over all steps."""
    first: str
    last: str
    means: str
    """What it says."""


class AemAnswer(NamedTuple):
    """Does AEM change advantages, and by how much?"""

    sentence: str
    evidence: tuple[Evidence, ...]


def is_aem_at_work(run: TrainingRun) -> AemAnswer:
    """The answer of a run. That advantages change does not show that this helps: held-out rates beside those of a run
    without AEM do."""
    settings = advantage_of(run)
    used = _estimator(run, settings)
    if used is not None and used != _AEM:
        return AemAnswer(f"AEM is not used: advantages are made by {used}.", ())
    min_range = float(settings.get("min_range", AEMConfig().min_range))
    return AemAnswer(_sentence(run, min_range), tuple(_evidence(run, min_range)))


def advantage_of(run: TrainingRun) -> dict[str, Any]:
    """The section `advantage` of the run's settings, as far as it can be read."""
    try:
        found = yaml.safe_load(run.config or "")
    except yaml.YAMLError:
        return {}
    section = found.get("advantage") if isinstance(found, dict) else None
    return section if isinstance(section, dict) else {"estimator": section} if isinstance(section, str) else {}


def _estimator(run: TrainingRun, settings: dict[str, Any]) -> str | None:
    """Name of what made the advantages; None where nothing says so, as in runs of older versions."""
    return next((step.estimator for step in run.steps if step.estimator), None) or settings.get("estimator")


def _sentence(run: TrainingRun, min_range: float) -> str:
    shares, deviations = run.series("unmodulated_share")[1], run.series("alpha_std")[1]
    if not shares or not deviations:
        return "Whether AEM does anything is not known: no step has metrics of it yet."
    unchanged, deviation = _mean(shares), _mean(deviations)
    ranges = run.series("entropy_range")[1]
    why = ""
    if ranges:
        why = f"; entropy ranges over {_mean(ranges):.2g} nats within a group, and min_range is {min_range:g}"
    if unchanged > 1 - _FEW / 10 or deviation == 0:
        return f"AEM does nothing: every response keeps its advantage (α = 1) in {len(shares)} steps{why}."
    low, high = run.series("alpha_min")[1], run.series("alpha_max")[1]
    spread = f"α from {_mean(low):.2f} to {_mean(high):.2f}, " if low and high else ""
    size = f"{spread}standard deviation {deviation:.2g}, on average over {len(shares)} steps"
    does = "AEM does very little" if unchanged > 0.9 or deviation < _FEW else "AEM is at work"
    return f"{does}: α differs from 1 for {1 - unchanged:.0%} of the responses ({size}){why}.{_lately(shares)}"


def _lately(shares: Sequence[float]) -> str:
    """What has changed since, where it has."""
    count = len(shares) // 5
    if count < 2 or abs((last := _mean(shares[-count:])) - (first := _mean(shares[:count]))) < 0.2:
        return ""
    return f" That was {1 - first:.0%} in the first {count} steps and {1 - last:.0%} in the last {count}."


def _evidence(run: TrainingRun, min_range: float) -> Iterator[Evidence]:
    rows = (
        ("unmodulated_share", "responses with α = 1", 100, "%", "100 %: AEM does nothing"),
        ("alpha_min", "smallest α", 1, "", "the least confident response of a step"),
        ("alpha_max", "largest α", 1, "", "the most confident response of a step"),
        ("alpha_std", "standard deviation of α", 1, "", "0: AEM does nothing"),
        ("alpha_token_mean", "mean α over trained tokens", 1, "", "far from 1: AEM changes the size of a step"),
        (
            "entropy_range",
            "entropy range within a group",
            1,
            "nats",
            f"α is 1 in a group below {min_range:g} (min_range)",
        ),
        ("positive_share", "positive advantages", 100, "%", "below a half AEM explores, above it sharpens"),
    )
    for field, what, scale, unit, means in rows:
        values = [scale * value for value in run.series(field)[1]]
        if values:
            yield _row(what, values, unit, means)
    groups = [
        100 * step.zero_variance_groups / step.groups
        for step in run.steps
        if step.groups and step.zero_variance_groups is not None
    ]
    if groups:
        yield _row(
            "zero-variance groups",
            groups,
            "%",
            "every advantage in them is 0, so an α other than 1 changes nothing there",
        )
    yield from _correlations(run.directory)


def _correlations(directory: Path) -> Iterator[Evidence]:
    """How α goes with what the theory says, of a diagnosis that lies in the run."""
    for name in _DIAGNOSIS:
        try:
            relations = json.loads((directory / name).read_bytes())["state_relations"]
            found = [(one["name"], float(one["r"]), one["points"]) for one in relations if one.get("r") is not None]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        for relation, r, points in found:
            means = f"above 0: agrees with the theory ({points} points; {name})"
            yield Evidence(f"correlation of {relation}", f"{r:+.2f}", "", "", means)
        return


def _row(what: str, values: Sequence[float], unit: str, means: str) -> Evidence:
    mean, first, last = (_shown(value, unit) for value in (_mean(values), values[0], values[-1]))
    return Evidence(what, mean, first, last, means)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _shown(value: float, unit: str) -> str:
    return f"{value:.3g}{' ' if unit else ''}{unit}"
