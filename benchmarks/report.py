"""From samples to rows: medians over the rounds, ratios to the reference contender, facts about the machine."""

import os
import statistics
from collections.abc import Sequence
from typing import Any

import docker
from contenders import REFERENCE
from rich import box
from rich.console import Console
from rich.table import Table
from suite.host import host_facts
from unit import Sample

MEASURES = {
    "p50_ms": "ms per call",
    "calls_per_s": "calls/s",
    "engine_cpu_ms": "engine CPU ms/call",
    "start_ms": "start ms",
    "gone_ms": "gone ms",
    "trajectories_per_min": "trajectories/min",
}
"""Columns of the table and their headings."""
_MORE_IS_BETTER = {"calls_per_s", "trajectories_per_min"}


def machine() -> dict[str, Any]:
    """Facts about the machine, and how busy it was before."""
    engine = docker.from_env().version()["Version"]
    return {**host_facts(), "docker_engine": engine, "load_average_before": round(os.getloadavg()[0], 2)}


def _ratio(measure: str, value: float | None, reference: float | None) -> float | None:
    """How many times better than the reference: above 1 is better for every measure. None where either is 0."""
    if not value or not reference:
        return None
    return round(value / reference if measure in _MORE_IS_BETTER else reference / value, 2)


def rows(samples: dict[tuple[str, int], list[Sample]], facts: dict[str, Any], run: str) -> list[dict[str, Any]]:
    """One object per contender and number of sandboxes; `run` is the label of what the run made."""
    found = []
    for (name, sandboxes), taken in samples.items():
        row: dict[str, Any] = {"name": name, "sandboxes": sandboxes}
        for measure in Sample.model_fields:
            values = [value for sample in taken if isinstance(value := getattr(sample, measure), float)]
            if measure != "failure":
                row[measure] = round(statistics.median(values), 3) if values else None
        row["failures"] = [sample.failure for sample in taken if sample.failure]
        row["rounds"] = [sample.model_dump(exclude={"failure"}) for sample in taken]
        row["machine"] = facts
        row["run"] = run
        found.append(row)
    references = {row["sandboxes"]: row for row in found if row["name"] == REFERENCE}
    for row in found:
        reference = references.get(row["sandboxes"], {})
        row["vs_mini"] = {measure: _ratio(measure, row[measure], reference.get(measure)) for measure in MEASURES}
    return sorted(found, key=lambda row: row["sandboxes"])


def _cell(row: dict[str, Any], measure: str) -> str:
    value, ratio = row[measure], row["vs_mini"][measure]
    if value is None:
        return "-"
    text = f"{value:.2f}" if value < 10 else f"{value:.0f}"
    return text if ratio is None or text == "0.00" or row["name"] == REFERENCE else f"{text} ({ratio:.1f}x)"


def show(found: Sequence[dict[str, Any]]) -> None:
    """Print the table. Figures in brackets say how many times better than mini-swe-agent a figure is."""
    table = Table("path", "sandboxes", *MEASURES.values(), box=box.MARKDOWN)
    for row in found:
        table.add_row(row["name"], str(row["sandboxes"]), *(_cell(row, measure) for measure in MEASURES))
    console = Console(width=160)
    console.print(table)
    for row in found:
        for failure in sorted(set(row["failures"])):
            console.print(f"{row['name']}, {row['sandboxes']} sandboxes: {failure}", markup=False, highlight=False)
