"""Labels of a whole store in numbers: each label's share, resolved rates with it and without, and shares over training
steps. One trajectory is in memory at a time."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

from swe_aem.audit.deeds import deeds_of
from swe_aem.audit.labels import LABELS, Evidence, found
from swe_aem.core import Outcome, Trajectory
from swe_aem.core.base import Frozen
from swe_aem.core.outcomes import in_baseline, is_resolved
from swe_aem.errors import UserError
from swe_aem.store import Store
from swe_aem.store.graded import is_graded_directory

MOST_COLUMNS = 8
"""Columns of the table over training steps."""


class Labelled(Frozen):
    """The labels of one trajectory."""

    task_id: str
    sample: int
    step: int | None
    """The training step whose weights sampled the last response, from 1; None where nothing was sampled."""
    outcome: Outcome
    reward: float | None
    counts: bool
    """Does its outcome say something about the policy, so that it is in resolved rates?"""
    resolved: bool
    """Is the task resolved? The trajectory may have run into a limit and be graded all the same."""
    labels: dict[str, tuple[Evidence, ...]]


def labelled(trajectory: Trajectory) -> Labelled:
    """The labels of a terminal trajectory."""
    assert trajectory.outcome is not None  # a store takes nothing else
    versions = [response.last_version for response in trajectory.responses]
    return Labelled(
        task_id=trajectory.task_id,
        sample=trajectory.sample,
        step=max(versions) + 1 if versions else None,
        outcome=trajectory.outcome,
        reward=trajectory.reward,
        counts=in_baseline(trajectory),
        resolved=is_resolved(trajectory),
        labels=found(deeds_of(trajectory)),
    )


def audited(directory: Path) -> Iterator[Labelled]:
    """The labels of each trajectory of a rollout's store, or of the store of a training run, in the order of writing.

    The store may still be written. Raises `UserError` if there is none.
    """
    return map(labelled, Store(store_of(directory)).trajectories())


def store_of(directory: Path) -> Path:
    """The store in a directory: the directory itself, or `rollouts` in that of a training run. Raises `UserError` if
    there is none."""
    for place in (directory, directory / "rollouts"):
        if (place / "trajectories").is_dir():
            return place
    if is_graded_directory(directory):
        raise UserError(
            f"{directory} holds verdicts on patches, and no trajectories that could be audited: "
            f"`swe-aem eval {directory}` shows them; audit the store that the patches are from"
        )
    raise UserError(
        f"{directory} is neither a store nor a training run: it has no folder `trajectories` and no "
        "`rollouts/trajectories`; name the --out of a rollout or of a training run"
    )


class LabelCount(Frozen):
    """One label in a store."""

    label: str
    trajectories: int
    share: float
    """Share of all trajectories that have it, 0..1."""
    resolved_with: float | None
    """Resolved rate of the trajectories that have it and count; None if there are none."""
    resolved_without: float | None


class StepRange(Frozen):
    """The labels of the trajectories of one or more training steps."""

    first: int
    last: int
    trajectories: int
    resolved: float | None
    """Resolved rate; None if no trajectory counts."""
    shares: dict[str, float]
    """By label, of these trajectories."""


class AuditReport(Frozen):
    """A store's labels in numbers."""

    directory: str
    trajectories: int
    counted: int
    """Trajectories whose outcome says something about the policy: infrastructure failures and broken tasks are left
    out of resolved rates."""
    resolved: int
    unlabelled: int
    """Trajectories with no label."""
    labels: tuple[LabelCount, ...]
    """In the order of `LABELS`, those that no trajectory has included."""
    steps: tuple[StepRange, ...]
    """Each step of training apart, in order; empty where all was sampled by the same weights."""

    def share(self, label: str) -> float:
        """Share of the trajectories that have a label."""
        return next(row.share for row in self.labels if row.label == label)


class _Sums:
    """Counts of some trajectories."""

    def __init__(self) -> None:
        self.trajectories = self.counted = self.resolved = self.unlabelled = 0
        self.having: Counter[str] = Counter()
        self.counted_having: Counter[str] = Counter()
        self.resolved_having: Counter[str] = Counter()

    def add(self, one: Labelled) -> None:
        self.trajectories += 1
        self.unlabelled += not one.labels
        self.having.update(one.labels.keys())
        if one.counts:
            self.counted += 1
            self.counted_having.update(one.labels.keys())
            self.resolved += one.resolved
            if one.resolved:
                self.resolved_having.update(one.labels.keys())

    def add_sums(self, other: "_Sums") -> None:
        self.trajectories += other.trajectories
        self.counted += other.counted
        self.resolved += other.resolved
        self.having.update(other.having)

    def count(self, label: str) -> LabelCount:
        counted, resolved = self.counted_having[label], self.resolved_having[label]
        return LabelCount(
            label=label,
            trajectories=self.having[label],
            share=self.having[label] / self.trajectories if self.trajectories else 0.0,
            resolved_with=_rate(resolved, counted),
            resolved_without=_rate(self.resolved - resolved, self.counted - counted),
        )

    def range(self, first: int, last: int) -> StepRange:
        return StepRange(
            first=first,
            last=last,
            trajectories=self.trajectories,
            resolved=_rate(self.resolved, self.counted),
            shares={label.name: self.having[label.name] / self.trajectories for label in LABELS},
        )


class Tally:
    """Counts labelled trajectories as they come."""

    def __init__(self) -> None:
        self._all = _Sums()
        self._steps: defaultdict[int, _Sums] = defaultdict(_Sums)

    @property
    def trajectories(self) -> int:
        """How many were counted."""
        return self._all.trajectories

    def add(self, one: Labelled) -> None:
        """Count a trajectory."""
        self._all.add(one)
        if one.step is not None:
            self._steps[one.step].add(one)

    def report(self, directory: Path | str) -> AuditReport:
        """The numbers so far."""
        sums, several = self._all, len(self._steps) > 1
        return AuditReport(
            directory=str(directory),
            trajectories=sums.trajectories,
            counted=sums.counted,
            resolved=sums.resolved,
            unlabelled=sums.unlabelled,
            labels=tuple(sums.count(label.name) for label in LABELS),
            steps=tuple(self._steps[step].range(step, step) for step in sorted(self._steps)) if several else (),
        )

    def columns(self, most: int = MOST_COLUMNS) -> tuple[StepRange, ...]:
        """The steps in at most so many ranges of about the same number of steps; empty if there is one step only."""
        return tuple(_joined(self._steps, most)) if len(self._steps) > 1 else ()


def _joined(steps: Mapping[int, _Sums], most: int) -> Iterator[StepRange]:
    numbers = sorted(steps)
    wanted = min(most, len(numbers))
    edges = [n * len(numbers) // wanted for n in range(wanted + 1)]
    for start, stop in pairwise(edges):
        sums = _Sums()
        for number in numbers[start:stop]:
            sums.add_sums(steps[number])
        yield sums.range(numbers[start], numbers[stop - 1])


def _rate(part: int, whole: int) -> float | None:
    return part / whole if whole else None
