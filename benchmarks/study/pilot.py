"""What the design can see: how far two runs of plain GRPO differ that share the policy at the start alone."""

import json
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from study.measures import detectable, deviation
from study.results import RATES, task_rates
from study.settings import BASE, REGIMES, SEEDS, read_result, run_of
from swe_aem.store import replace

FILE = "pilot.json"


def conclude(directory: Path, seeds: int) -> dict[str, Any]:
    """Write and print the smallest difference that the study can see, of each rate and regime."""
    found: dict[str, Any] = {"seeds": seeds, "pairs_of_the_study": SEEDS, "regimes": {}}
    pooled: dict[str, list[list[float]]] = {rate: [] for rate in RATES}
    for regime in REGIMES:
        lines = found["regimes"][regime] = {}
        for rate in RATES:
            pairs = [_difference(directory, regime, seed, rate) for seed in range(seeds)]
            pooled[rate].append(pairs)
            lines[rate] = _line([pairs])
    found["pooled"] = {rate: _line(several) for rate, several in pooled.items()}
    replace(directory / FILE, json.dumps(found, indent=1) + "\n")
    _print(found)
    return found


def _difference(directory: Path, regime: str, seed: int, rate: str) -> float:
    """The second run's rate minus the first one's."""
    first, second = (read_result(run_of(regime, BASE, seed, again=again), directory) for again in (False, True))
    assert first is not None
    assert second is not None
    return float(task_rates(second["after"])[rate].mean() - task_rates(first["after"])[rate].mean())


def _line(several: list[list[float]]) -> dict[str, Any]:
    """Deviation and detectable difference of pairs, regime by regime."""
    spread = deviation(several)
    differences = [round(one, 4) for pairs in several for one in pairs]
    return {
        "differences": differences,
        "deviation": round(spread, 4),
        "detectable": round(detectable(spread, SEEDS), 4),
    }


def _print(found: dict[str, Any]) -> None:
    table = Table("start", *(f"{rate}: points that {SEEDS} pairs can see" for rate in RATES), box=box.MARKDOWN)
    for regime, lines in {**found["regimes"], "all": found["pooled"]}.items():
        table.add_row(f"{regime} %", *(f"{100 * lines[rate]['detectable']:.1f}" for rate in RATES))
    Console(width=140).print(table)
