"""The study's figures, as SVG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from study.measures import Numbers
from study.results import Result
from study.settings import BASE, MAIN

Regimes = Mapping[str, Mapping[str, Mapping[int, Result]]]
COLOURS = dict(zip(MAIN, ("#4d6670", "#b4531a", "#2f6db3", "#3d8270"), strict=True))
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "aem-study",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(regimes: Regimes, directory: Path) -> list[str]:
    """Write the figures; returns their names."""
    import matplotlib as mpl

    mpl.use("svg")
    with mpl.rc_context(_STYLE):
        _curves(regimes, directory / "aem-study-curves.svg")
        _apart(regimes, directory / "aem-study-entropy.svg")
    return ["aem-study-curves.svg", "aem-study-entropy.svg"]


def _curves(regimes: Regimes, path: Path) -> None:
    """Rate and entropy of the main arms, means over seeds."""
    figure, axes = _panels(2, len(regimes), height=5)
    for column, (regime, arms) in enumerate(regimes.items()):
        for row, (name, label) in enumerate((("resolved", "resolved in training"), ("entropy", "entropy, nats"))):
            panel = axes[row][column]
            for arm in MAIN:
                if arms[arm]:
                    values = _columns(arms[arm], name).mean(0)
                    panel.plot(np.arange(1, len(values) + 1), values, color=COLOURS[arm], linewidth=1.3)
            panel.set_ylabel(label if column == 0 else "")
            panel.set_title(f"about {regime} % at the start" if row == 0 else "")
        axes[1][column].set_xlabel("step")
    _legend(axes[0][0], MAIN)
    _save(figure, path)


def _apart(regimes: Regimes, path: Path) -> None:
    """Entropy of an arm minus that of plain GRPO, paired by seed, with 95 % of the mean, against the share of positive
    advantages of plain GRPO."""
    figure, axes = _panels(2, len(regimes), height=5)
    for column, (regime, arms) in enumerate(regimes.items()):
        for arm in MAIN[1:]:
            seeds = sorted(set(arms[arm]) & set(arms[BASE]))
            if len(seeds) < 2:
                continue
            one, other = ({seed: arms[name][seed] for seed in seeds} for name in (arm, BASE))
            apart = _columns(one, "entropy") - _columns(other, "entropy")
            mean, error = apart.mean(0), 1.96 * apart.std(0, ddof=1) / np.sqrt(len(seeds))
            steps = np.arange(1, apart.shape[1] + 1)
            axes[0][column].plot(steps, mean, color=COLOURS[arm], linewidth=1.3)
            axes[0][column].fill_between(steps, mean - error, mean + error, color=COLOURS[arm], alpha=0.15, linewidth=0)
        axes[0][column].axhline(0, color="#8aa0a8", linewidth=0.8)
        axes[0][column].set_title(f"about {regime} % at the start")
        if arms[BASE]:
            share = _columns(arms[BASE], "positive").mean(0)
            axes[1][column].plot(np.arange(1, len(share) + 1), share, color=COLOURS[BASE], linewidth=1.3)
        axes[1][column].axhline(0.5, color="#8aa0a8", linewidth=0.8)
        axes[1][column].set_ylim(0, 1)
        axes[1][column].set_xlabel("step")
    axes[0][0].set_ylabel("entropy minus GRPO's, nats")
    axes[1][0].set_ylabel("positive share, GRPO")
    _legend(axes[0][0], MAIN[1:])
    _save(figure, path)


def _legend(panel: Any, arms: Sequence[str]) -> None:
    """Say which colour is which arm, whatever was drawn."""
    from matplotlib.lines import Line2D

    panel.legend(handles=[Line2D([], [], color=COLOURS[arm], label=arm) for arm in arms], frameon=False)


def _panels(rows: int, columns: int, *, height: float) -> tuple[Any, Any]:
    import matplotlib.pyplot as plt

    return plt.subplots(rows, columns, figsize=(9, height), sharex=True, sharey="row", squeeze=False)


def _columns(arm: Mapping[int, Result], name: str) -> Numbers:
    """(seeds, steps)"""
    return np.array([arm[seed]["steps"][name] for seed in sorted(arm)], dtype=float)


def _save(figure: Any, path: Path) -> None:
    import matplotlib.pyplot as plt

    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)
