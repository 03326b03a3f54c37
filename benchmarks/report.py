"""From samples to rows: medians over the rounds, ratios to the reference contender, facts about the machine."""

import os
import platform
import statistics
import time
from collections.abc import Sequence
from typing import Any

import docker
from contenders import REFERENCE
from rich import box
from rich.console import Console
from rich.table import Table
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


def busy_cpus(seconds: float = 0.5) -> float:
    """CPUs that are busy now. Call it while the benchmark itself is idle."""

    def idle_ticks() -> int:
        with open("/proc/stat") as file:
            fields = file.readline().split()
        return int(fields[4]) + int(fields[5])

    before, began_s = idle_ticks(), time.perf_counter()
    time.sleep(seconds)
    idle_s = (idle_ticks() - before) / os.sysconf("SC_CLK_TCK")
    return round(max(0.0, (os.cpu_count() or 1) - idle_s / (time.perf_counter() - began_s)), 2)


def machine() -> dict[str, Any]:
    """Facts about the machine, and how busy it was before."""
    with open("/proc/cpuinfo") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory_bytes / 2**30, 1),
        "kernel": platform.release(),
        "docker_engine": docker.from_env().version()["Version"],
        "python": platform.python_version(),
        "load_average_before": round(os.getloadavg()[0], 2),
    }


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
