"""The pace of training and rollouts side by side, on a virtual clock: what `max_staleness` and `stale` do to it.

    python benchmarks/pipeline.py --json pipeline.json
    python benchmarks/pipeline.py --real               # training runs whose trajectories sleep, beside the simulation

The product's `GroupQueue` decides which groups begin and which a step takes. Everything else is simulated: places that
are always full where a group may begin, trajectories whose durations are log-normal and end at a time limit, a trainer
that takes the same time for each step. The *ideal* is the pace at which no place is ever empty. Every row has the very
same trajectories in the same order, so what is trained on can be compared with what began.
"""

import argparse
import heapq
import json
import math
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from swe_aem.train.group_queue import GroupQueue, QueueRules, Stale, Taken

GROUP = 8
"""Trajectories of a group."""
DURATIONS = ((480.0, 0.7, 5400.0), (480.0, 1.0, 5400.0), (600.0, 1.0, 3600.0))
SETTINGS: tuple[tuple[int, Stale], ...] = (
    (0, "wait"), (1, "wait"), (2, "wait"), (4, "wait"), (1, "drop"), (2, "drop"), (4, "drop")
)  # fmt: skip

_SIMULATED = {"trajectories": 1024, "places": 512, "train_s": 600.0, "sync_s": 60.0, "steps": 40}
_REAL = {"trajectories": 32, "places": 16, "steps": 10, "median_s": 5.0}


@dataclass(frozen=True)
class Workload:
    """What a run has to do."""

    median_s: float
    sigma: float
    """Standard deviation of the logarithm of a trajectory's seconds."""
    limit_s: float
    """Time limit of a trajectory."""
    trajectories: int
    """Trajectories of a step."""
    places: int
    """Trajectories that run at once."""
    train_s: float
    sync_s: float
    """Seconds until the policy has the weights of a step, during which rollouts continue."""
    steps: int
    seed: int = 0

    def durations_s(self) -> list[float]:
        """Seconds of each trajectory, by its number; more of them than a run begins."""
        dice = random.Random(self.seed)
        count = 2 * self.trajectories * self.steps
        return [min(self.limit_s, dice.lognormvariate(math.log(self.median_s), self.sigma)) for _ in range(count)]

    def ideal_s(self) -> float:
        """Seconds of a step if no place, or else the trainer, were ever idle."""
        return max(self.trajectories * statistics.fmean(self.durations_s()) / self.places, self.train_s + self.sync_s)


@dataclass
class Pipeline:
    """One run on a virtual clock."""

    workload: Workload
    rules: QueueRules
    now_s: float = 0.0
    ages: list[int] = field(default_factory=list)
    """Age of each group that was trained on."""
    trained: list[int] = field(default_factory=list)
    """Numbers of these groups."""
    dropped: list[int] = field(default_factory=list)
    begun: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._queue = GroupQueue(self.rules)
        self._free = self.workload.places
        self._to_start = 0
        """Trajectories of the latest group that no place was free for."""
        self._left: dict[int, int] = {}
        self._version_of: dict[int, int] = {}
        self._events: list[tuple[float, str, int]] = []
        self._durations_s = self.workload.durations_s()

    def run(self) -> "Pipeline":
        """Train all steps."""
        trains = False
        while self._queue.version < self.rules.steps:
            self._fill()
            self.now_s, what, number = heapq.heappop(self._events)
            if what == "trained":
                self._queue.trained()
                trains = False
            else:
                self._free += 1
                self._left[number] -= 1
                if self._left[number]:
                    continue
                self._queue.complete(number, "informative")
            if not trains and (taken := self._queue.take()) is not None:
                self._train(taken)
                trains = True
        return self

    def _fill(self) -> None:
        while self._free:
            if not self._to_start:
                if not self._queue.may_begin():
                    return
                number = len(self.begun)
                self._queue.begin(number)
                self.begun.append(number)
                self._version_of[number], self._left[number] = self._queue.version, GROUP
                self._to_start = GROUP
            number = self.begun[-1]
            seconds = self._durations_s[number * GROUP + GROUP - self._to_start]
            heapq.heappush(self._events, (self.now_s + seconds, "ended", number))
            self._to_start -= 1
            self._free -= 1

    def _train(self, taken: Taken) -> None:
        self.trained += taken.trained
        self.dropped += taken.dropped
        self.ages += [self._queue.version - self._version_of[number] for number in taken.trained]
        spent_s = self.workload.train_s + self.workload.sync_s
        heapq.heappush(self._events, (self.now_s + spent_s, "trained", 0))

    @property
    def step_s(self) -> float:
        """Seconds per step."""
        return self.now_s / self.rules.steps

    def figures(self) -> dict[str, Any]:
        """What is shown of the run."""
        step_s, ideal_s = self.step_s, self.workload.ideal_s()
        # Groups that began in the last steps may have had no step to be trained in.
        last = self.rules.steps - self.rules.max_staleness - 1
        counted = {number for number in self.begun if self._version_of[number] <= last}
        begun = self._seconds(counted)
        trained = self._seconds(counted.intersection(self.trained))
        return {
            "max_staleness": self.rules.max_staleness,
            "stale": self.rules.stale,
            "step_s": step_s,
            "ideal_s": ideal_s,
            "pace": ideal_s / step_s,
            "mean_age": statistics.fmean(self.ages),
            "max_age": max(self.ages),
            "kept": len(self.trained) / (len(self.trained) + len(self.dropped)),
            "mean_begun_s": statistics.fmean(begun),
            "mean_trained_s": statistics.fmean(trained),
            "p90_begun_s": statistics.quantiles(begun, n=10)[-1],
            "p90_trained_s": statistics.quantiles(trained, n=10)[-1],
        }

    def _seconds(self, groups: set[int]) -> list[float]:
        return [self._durations_s[number * GROUP + n] for number in sorted(groups) for n in range(GROUP)]


def simulate(workload: Workload, settings: Sequence[tuple[int, Stale]] = SETTINGS) -> list[dict[str, Any]]:
    """The figures of the workload under each `max_staleness` and `stale`."""
    found = []
    for staleness, stale in settings:
        rules = QueueRules(
            groups_per_step=workload.trajectories // GROUP,
            max_staleness=staleness,
            stale=stale,
            steps=workload.steps,
        )
        found.append(Pipeline(workload, rules).run().figures())
    return found


def main() -> None:
    """Simulate or train, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", action="store_true", help="train, with sleeps for durations; about 9 minutes")
    parser.add_argument("--trajectories", type=int, help="trajectories of a step")
    parser.add_argument("--places", type=int, help="trajectories that run at once")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--train-s", type=float, help="simulated seconds of training per step")
    parser.add_argument("--sync-s", type=float, help="simulated seconds of a sync of weights")
    parser.add_argument("--median-s", type=float, help="median seconds of a sleep, with --real")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    chosen = vars(parser.parse_args())
    sizes = _REAL if chosen["real"] else _SIMULATED
    given = {name: value for name, value in chosen.items() if name not in ("real", "json") and value is not None}
    if others := given.keys() - sizes.keys():
        parser.error(f"{', '.join(sorted(others))}: not {'with' if chosen['real'] else 'without'} --real")
    found = _trained(**{**sizes, **given}) if chosen["real"] else _simulated(**{**sizes, **given})
    if chosen["json"]:
        chosen["json"].write_text(json.dumps(found, indent=1))


def _simulated(**sizes: Any) -> dict[str, Any]:
    rows = []
    for median_s, sigma, limit_s in DURATIONS:
        workload = Workload(median_s, sigma, limit_s, **sizes)
        print(f"median {median_s:.0f} s, sigma {sigma:g}, limit {limit_s:.0f} s", file=sys.stderr)
        figures = simulate(workload)
        _show(workload, figures)
        rows += [{**asdict(workload), **one} for one in figures]
    return {"rows": rows}


def _trained(median_s: float, **sizes: Any) -> dict[str, Any]:
    from real_pipeline import measure, show

    found = measure(Workload(median_s, sigma=1.0, limit_s=11 * median_s, train_s=0.0, sync_s=0.0, **sizes))
    show(found)
    return found


def _show(workload: Workload, rows: Sequence[dict[str, Any]]) -> None:
    title = (
        f"median {workload.median_s:.0f} s, sigma {workload.sigma:g}, limit {workload.limit_s:.0f} s: "
        f"ideal {rows[0]['ideal_s']:.0f} s per step"
    )
    table = Table(title=title, box=box.MARKDOWN, title_justify="left")
    columns = ("max_staleness", "stale", "s per step", "of the ideal pace", "mean age", "max age", "groups kept")
    for name in (*columns, "mean s begun", "mean s trained on", "p90 s begun", "p90 s trained on"):
        table.add_column(name, justify="right")
    for one in rows:
        table.add_row(
            str(one["max_staleness"]),
            one["stale"] if one["max_staleness"] else "-",
            f"{one['step_s']:.0f}",
            f"{one['pace']:.0%}",
            f"{one['mean_age']:.1f}",
            str(one["max_age"]),
            f"{one['kept']:.0%}",
            *(f"{one[name]:.0f}" for name in ("mean_begun_s", "mean_trained_s", "p90_begun_s", "p90_trained_s")),
        )
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
