"""Real training runs whose trajectories sleep: the pace with and without `max_staleness`, beside the simulation's.

The quickstart's policy, bubblewrap sandboxes, tests, store, queue and trainer are those of `swe-aem train`. The agent
(`sleeping.py`) lets a command sleep in each sandbox, so that seconds are those of the lot and not of the processors.
The two runs have the same groups in the same order, with the same sleeps, and run side by side on the same machine.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pipeline import GROUP, Pipeline, Workload
from rich import box
from rich.console import Console
from rich.table import Table
from sleeping import Sleeping

from swe_aem.core.settings import check
from swe_aem.store import Store
from swe_aem.train.config import TrainConfig
from swe_aem.train.records import StepMetrics, read_metrics
from swe_aem.train.schedule import SCHEDULE

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parent
STEP_S = ("step_s", "simulated_step_s", "replayed_step_s")
"""Seconds per step: measured; simulated with the sleeps; simulated with the seconds that each trajectory took."""


@dataclass(frozen=True)
class Known(Workload):
    """A workload whose trajectories are known."""

    known_s: tuple[float, ...] = ()

    def durations_s(self) -> list[float]:
        """Seconds of each trajectory, by its number."""
        return list(self.known_s)


def measure(workload: Workload, stalenesses: tuple[int, ...] = (0, 4)) -> dict[str, Any]:
    """Train under each `max_staleness`, side by side; the figures of each run, and of the machine meanwhile."""
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="swe-aem-pipeline-") as directory:
        outs = {staleness: Path(directory) / str(staleness) for staleness in stalenesses}
        for staleness, out in outs.items():
            out.with_suffix(".yaml").write_text(yaml.safe_dump(_settings(workload, staleness)))
        _train(outs.values())
        steps = {staleness: read_metrics(out) for staleness, out in outs.items()}
        train_s = statistics.median(_train_s(one) for lines in steps.values() for one in lines)
        rows = [_row(workload, steps[one], outs[one], one, train_s) for one in stalenesses]
    wall_s = time.monotonic() - began_s
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "rows": rows,
        "ratios": {name: rows[0][name] / rows[-1][name] for name in STEP_S},
        "train_s": train_s,
        "wall_s": wall_s,
        "cpu_share": (used.ru_utime + used.ru_stime) / (wall_s * len(os.sched_getaffinity(0))),
        "load": os.getloadavg()[0],
    }


def _settings(workload: Workload, max_staleness: int) -> dict[str, Any]:
    agent = {"type": f"{_HERE / 'sleeping.py'}:Sleeping", **_lot(workload).model_dump()}
    return {
        "model": str(_ROOT / "configs" / "quickstart" / "policy"),
        "steps": workload.steps,
        "groups_per_step": workload.trajectories // GROUP,
        "micro_batch_size": GROUP,
        "max_staleness": max_staleness,
        "importance_sampling": {"mode": "truncate", "high": 2.0},
        "rollout": {
            "agent": agent,
            "tasks": str(_ROOT / "tasks" / "nano"),
            "split": "train",
            "group_size": GROUP,
            "limits": {"memory_bytes": 512 << 20, "cpus": 1, "pids": 64, "disk_bytes": 64 << 20},
            "time_limit_s": 10 * workload.limit_s,
            "native": {"max_turns": 3, "max_response_tokens": 96, "max_context_tokens": 512},
            "renderer": {"enable_thinking": False},
            "scheduling": {"concurrency": workload.places},
        },
        "grpo": {"learning_rate": 1e-4},
        "save_every": 1000,
        "heldout": None,
        "device": "cpu",
    }


def _lot(workload: Workload) -> Sleeping:
    return Sleeping(median_s=workload.median_s, sigma=workload.sigma, limit_s=workload.limit_s, seed=workload.seed)


def _train(outs: Collection[Path]) -> None:
    """Run `swe-aem train` in each directory under the configuration beside it, all at once. Raises `SystemExit` with
    what one that failed said."""
    running: dict[Path, subprocess.Popen[str]] = {}
    try:
        for out in outs:
            command = [sys.executable, "-m", "swe_aem", "train", str(out.with_suffix(".yaml")), "--out", str(out)]
            with out.with_suffix(".log").open("w") as log:
                running[out] = subprocess.Popen(command, stdout=log, stderr=log, text=True)
        for out, process in running.items():
            if process.wait():
                raise SystemExit(out.with_suffix(".log").read_text()[-3000:])
    finally:
        for process in running.values():
            process.terminate()
            process.wait()


def _train_s(line: StepMetrics) -> float:
    """Seconds of a step in which the trainer did not wait for rollouts."""
    assert line.step_s is not None
    return line.step_s - (line.rollout_wait_s or 0.0)


def _row(workload: Workload, lines: list[StepMetrics], out: Path, max_staleness: int, train_s: float) -> dict[str, Any]:
    """The figures of one run, and the simulation's for the same seconds of training."""
    config = check(TrainConfig, _settings(workload, max_staleness))
    keys = _keys(config, out)
    sleeps_s = [_lot(workload).sleep_s(*key) for key in keys]
    took_s = _seconds(out)

    def simulated(seconds: Iterable[float]) -> Pipeline:
        known = Known(**{**vars(workload), "train_s": train_s, "known_s": tuple(seconds)})
        return Pipeline(known, config.queue).run()

    as_slept, as_it_took = simulated(sleeps_s), simulated(took_s[key] for key in keys)
    assert lines[-1].wall_s is not None
    return {
        "max_staleness": max_staleness,
        "step_s": lines[-1].wall_s / len(lines),
        "simulated_step_s": as_slept.step_s,
        "replayed_step_s": as_it_took.step_s,
        "ideal_s": as_slept.workload.ideal_s(),
        "max_age": max(line.max_age or 0 for line in lines),
        "trajectories": len(keys),
        "mean_sleep_s": statistics.fmean(sleeps_s),
        "mean_beyond_s": statistics.fmean(took_s.values()) - statistics.fmean(sleeps_s),
        "steps": [line.model_dump(include={"step_s", "rollout_wait_s", "train_s", "max_age"}) for line in lines],
    }


def _keys(config: TrainConfig, out: Path) -> list[tuple[str, int]]:
    """Task and sample of each trajectory, group by group in the order in which the run began them."""
    chosen = [json.loads(line)["tasks"] for line in (out / SCHEDULE).read_text().splitlines()]
    tasks = [task for step in chosen for task in step][: config.steps * config.groups_per_step]
    return [(task, sample) for task in tasks for sample in range(GROUP)]


def _seconds(out: Path) -> dict[tuple[str, int], float]:
    """Seconds of each trajectory, from its place to its verdict."""
    stored = Store(out / "rollouts").trajectories()
    return {(one.task_id, one.sample): one.timings_s["total"] - one.timings_s["queue"] for one in stored}


def show(found: Mapping[str, Any]) -> None:
    """Print the figures."""
    table = Table(box=box.MARKDOWN)
    columns = ("max_staleness", "measured", "simulated", "replayed", "of the ideal pace", "simulated", "max age")
    for name in (*columns, "mean s beyond the sleep"):
        table.add_column(name, justify="right")
    for one in found["rows"]:
        seconds = (f"{one[name]:.1f} s" for name in STEP_S)
        paces = (f"{one['ideal_s'] / one[name]:.0%}" for name in ("step_s", "simulated_step_s"))
        table.add_row(str(one["max_staleness"]), *seconds, *paces, str(one["max_age"]), f"{one['mean_beyond_s']:.1f}")
    Console(width=140).print(table)
    ratios = (f"{found['ratios'][name]:.2f}" for name in STEP_S)
    print("first to last, measured {}, simulated {}, replayed {}".format(*ratios))
    print(
        f"{found['wall_s']:.0f} s in all, of which both runs used {found['cpu_share']:.0%} of the processors; training "
        f"{found['train_s']:.1f} s per step; load average {found['load']:.1f}"
    )
