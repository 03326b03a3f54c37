"""`TrainingRun`: what a training run left in its directory, put together. `charts.py` draws it, and
`training_words.py` says what it amounts to.

    DIR/metrics.jsonl   one `StepMetrics` per step; this or the store is needed
    DIR/summary.json    held-out rates before and after; only of a run that has ended
    DIR/heldout.jsonl   held-out rates on the way
    DIR/config.yaml     the resolved settings
    DIR/rollouts/       the store of trajectories

The run may still be going, or may have been killed: all but the start can be missing.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from swe_aem.core import OUTCOME_TABLE, Outcome, Trajectory, TrajectoryKey
from swe_aem.core.base import Frozen
from swe_aem.errors import UserError
from swe_aem.store import Store, StoredRow
from swe_aem.train.directory import CONFIG, ROLLOUTS
from swe_aem.train.records import (
    METRICS,
    HeldoutResult,
    RunSummary,
    StepMetrics,
    read_heldout,
    read_metrics,
    read_run_summary,
)

FAILURES = frozenset(outcome.value for outcome, rule in OUTCOME_TABLE.items() if rule.retried)
"""Names of the outcomes that are infrastructure failures."""


class TrainingRun(Frozen):
    """A run's directory, without its trajectories."""

    directory: Path
    steps: tuple[StepMetrics, ...]
    """Ordered by `step`, each step once; none before the first one is finished."""
    heldout: tuple[HeldoutResult, ...]
    """Evaluations by step: those of summary.json at the two ends, and those of heldout.jsonl elsewhere."""
    summary: RunSummary | None
    """None if the run never ended."""
    config: str | None
    """Text of config.yaml."""
    notes: tuple[str, ...]
    """What a reader of the numbers should know, one sentence each."""

    @property
    def last_step(self) -> int:
        """Number of the last step that is finished, 0 before that."""
        return self.steps[-1].step if self.steps else 0

    @property
    def ended(self) -> bool:
        """Did the run come to its end? One that was given more steps keeps the summary of its first end meanwhile."""
        return self.summary is not None and self.last_step <= self.summary.steps

    @property
    def wall_s(self) -> float | None:
        """Seconds that the run took, so far."""
        if self.ended and self.summary is not None:
            return self.summary.wall_s
        return max((step.wall_s for step in self.steps if step.wall_s is not None), default=None)

    @property
    def before(self) -> HeldoutResult | None:
        """The evaluation before the first step."""
        return next((one for one in self.heldout if one.step == 0), None)

    @property
    def after(self) -> HeldoutResult | None:
        """The latest evaluation after some training."""
        return next((one for one in reversed(self.heldout) if one.step > 0), None)

    @property
    def outcomes(self) -> dict[str, int]:
        """Trajectories by outcome over all steps, in the order of `Outcome`; names unknown here come last."""
        sums: Counter[str] = Counter()
        for step in self.steps:
            sums.update(step.outcomes or {})
        known = [outcome.value for outcome in Outcome if outcome.value in sums]
        return {name: sums[name] for name in (*known, *sorted(sums.keys() - set(known)))}

    @property
    def infrastructure_failures(self) -> int | None:
        """Infrastructure failures over all steps; None if no step tells."""
        told = [count for step in self.steps if (count := _failures(step)) is not None]
        return sum(told) if told else None

    def series(self, name: str) -> tuple[list[int], list[float]]:
        """Steps and values of one field of `StepMetrics`, as far as it is there and a finite number."""
        pairs = [(step.step, getattr(step, name)) for step in self.steps]
        kept = [(step, float(value)) for step, value in pairs if value is not None and math.isfinite(value)]
        return [step for step, _ in kept], [value for _, value in kept]


def read_training_run(directory: Path) -> TrainingRun:
    """Read a run's directory; raises `UserError` if it is none, or names file and line of what is damaged in it."""
    if not directory.is_dir():
        raise UserError(f"{directory}: no such directory; name the --out of a `swe-aem train`")
    if not (directory / METRICS).is_file() and not (directory / ROLLOUTS).is_dir():
        raise UserError(f"{directory} is not a training run: it has no {METRICS}; name the --out of a `swe-aem train`")
    lines = read_metrics(directory)
    steps = _once_each(lines)
    summary = read_run_summary(directory)
    config = directory / CONFIG
    return TrainingRun(
        directory=directory,
        steps=steps,
        heldout=_with_ends(_once_each(read_heldout(directory)), summary),
        summary=summary,
        config=config.read_text(encoding="utf-8", errors="replace") if config.is_file() else None,
        notes=tuple(_notes(lines, steps)),
    )


At = TypeVar("At", StepMetrics, HeldoutResult)


def _failures(step: StepMetrics) -> int | None:
    """Infrastructure failures of a step; None if the line does not tell."""
    if step.infrastructure_failures is not None:
        return step.infrastructure_failures
    return None if step.outcomes is None else sum(step.outcomes.get(name, 0) for name in FAILURES)


def _once_each(lines: Sequence[At]) -> tuple[At, ...]:
    """Ordered by step. A run that was killed repeats the steps after its last checkpoint: the later line counts."""
    by_step = {line.step: line for line in lines}
    return tuple(by_step[step] for step in sorted(by_step))


def _with_ends(heldout: Sequence[HeldoutResult], summary: RunSummary | None) -> tuple[HeldoutResult, ...]:
    """The evaluations, those of the summary in the place of others at the run's two ends."""
    by_step = {one.step: one for one in heldout}
    if summary is not None:
        for step, score in ((0, summary.heldout_before), (max(1, summary.steps), summary.heldout_after)):
            if score is not None:
                by_step[step] = HeldoutResult.after(step, score)
    return tuple(by_step[step] for step in sorted(by_step))


def _notes(lines: Sequence[StepMetrics], steps: Sequence[StepMetrics]) -> Iterator[str]:
    if len(lines) > len(steps):
        yield f"{len(lines) - len(steps)} lines of metrics.jsonl were repeated by a resumed run; the later ones count."
    missing = sum(step.outcomes is None for step in steps)
    if 0 < missing < len(steps):
        yield f"{missing} of {len(steps)} steps do not tell their outcomes; their trajectories are in no count."
    for name in StepMetrics.model_fields:
        values = [(step.step, getattr(step, name)) for step in steps]
        odd = [step for step, value in values if isinstance(value, float) and not math.isfinite(value)]
        if odd:
            yield f"{name} is not a finite number in {len(odd)} steps, first in step {odd[0]}; plots leave them out."


class Example(Frozen):
    """A trajectory to show."""

    what: str
    """Why it was chosen."""
    trajectory: Trajectory


def examples(directory: Path) -> list[Example]:
    """Up to three trajectories of the run's store: its first, its last resolved and its last unresolved one.

    Only outcomes and places of the others are held in memory. What does not count in a baseline is left out. Empty
    without a store; raises `UserError` for a damaged one.
    """
    store = Store(directory / ROLLOUTS)
    told = {key: row for key, row in store.index().items() if OUTCOME_TABLE[row.outcome].in_baseline}
    chosen: dict[TrajectoryKey, tuple[str, StoredRow]] = {}
    for what, outcome in (("Late, resolved", Outcome.RESOLVED), ("Late, unresolved", Outcome.UNRESOLVED)):
        key = next((key for key in reversed(told) if told[key].outcome is outcome), None)
        if key is not None:
            chosen[key] = (what, told[key])
    early = next((key for key in told if key not in chosen), None)
    if early is not None:
        chosen[early] = ("Early", told[early])
    return [Example(what=what, trajectory=store.load(row)) for what, row in chosen.values()]
