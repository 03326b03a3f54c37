"""Scatter plots of a diagnosis of AEM."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from swe_aem.train.analysis.diagnosis import DiagnosisResult


def plot(directory: Path, report: "DiagnosisResult") -> list[str]:
    """Write the plots that there are points for; returns their names."""
    from matplotlib.figure import Figure

    names = []
    modulated = [row for row in report.responses if row.foretold]
    if report.diagnosis.after is not None and modulated:
        figure = Figure(figsize=(5.5, 4.5), layout="constrained")
        _scatter(figure.subplots(), [row.foretold for row in modulated], [row.change or 0.0 for row in modulated])
        figure.axes[0].set(xlabel="A(1-α)", ylabel="change of mean token entropy, nats", title="responses")
        figure.savefig(directory / "change.png", dpi=120)
        names.append("change.png")
    if report.states:
        figure = Figure(figsize=(11, 4.5), layout="constrained")
        alpha = [row.alpha - 1 for row in report.states]
        whole, each = figure.subplots(1, 2)
        _scatter(whole, alpha, [-row.relative for row in report.states])
        whole.set(xlabel="α-1", ylabel="H-S of the response, nats", title="stored responses against their states")
        _scatter(each, alpha, [-row.relative_per_token for row in report.states])
        each.set(xlabel="α-1", ylabel="H-S per token, nats")
        figure.savefig(directory / "surprisal.png", dpi=120)
        names.append("surprisal.png")
    return names


def _scatter(axes: "Axes", x: Sequence[float], y: Sequence[float]) -> None:
    axes.axhline(0, color="0.8", linewidth=1)
    axes.axvline(0, color="0.8", linewidth=1)
    axes.plot(x, y, ".", markersize=6)
