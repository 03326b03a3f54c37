"""`Run`: what a training run left in its directory, read and checked; drawing is `plots.py`, words are `report.py`.

    DIR/metrics.jsonl   one object per step; needed
    DIR/summary.json    held-out rates before and after; only of a run that has ended
    DIR/heldout.jsonl   held-out rates on the way
    DIR/config.yaml     the resolved settings
    DIR/rollouts/       the store of trajectories

A run may still go on, or may have been killed: everything but the first steps can be missing.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, Field, ValidationError

from swe_aem.core import OUTCOME_TABLE, Outcome, Trajectory, TrajectoryKey
from swe_aem.core.base import Frozen
from swe_aem.errors import UserError
from swe_aem.store import Store, StoredRow

FAULTS = frozenset(outcome.value for outcome, rule in OUTCOME_TABLE.items() if not rule.in_baseline)
"""Names of the outcomes that are failures of our side."""


class Record(Frozen):
    """Something that the trainer wrote. Unlike settings it may have keys that are unknown here: a trainer may log more
    than a report draws."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Step(Record):
    """One line of metrics.jsonl. None: the line lacks the key."""

    step: int = Field(ge=0)
    """From 1."""
    wall_s: float | None = None
    """Seconds since the start of training."""
    version: float | None = None
    """Version of the weights that sampled."""
    resolved_rate: float | None = None
    """Share of the step's trajectories that resolved their task, 0..1."""
    outcomes: dict[str, int] | None = None
    """Trajectories by outcome."""
    groups: float | None = None
    zero_variance_groups: float | None = None
    """Groups whose trajectories all have one reward: they teach nothing."""
    rejected_groups: float | None = None
    reward: float | None = None
    response_entropy: float | None = Field(None, alias="aem/response_entropy")
    """Nats per token."""
    alpha_min: float | None = Field(None, alias="aem/alpha_min")
    alpha_max: float | None = Field(None, alias="aem/alpha_max")
    alpha_std: float | None = Field(None, alias="aem/alpha_std")
    gated_share: float | None = Field(None, alias="aem/gated_share")
    """Share of responses whose factor is exactly 1."""
    clip_low: float | None = Field(None, alias="clip_ratio/low_mean")
    clip_high: float | None = Field(None, alias="clip_ratio/high_mean")
    importance_mean: float | None = Field(None, alias="importance/mean")
    importance_max: float | None = Field(None, alias="importance/max")
    importance_capped_share: float | None = Field(None, alias="importance/capped_share")
    staleness: float | None = None
    """Versions of the weights that the samples were behind, mean."""
    tool_failure_rate: float | None = None
    malformed_rate: float | None = None
    tokens_per_s: float | None = None
    sampled_tokens: float | None = None
    rollout_s: float | None = None
    train_s: float | None = None
    wait_s: float | None = None
    loss: float | None = None
    grad_norm: float | None = None
    learning_rate: float | None = None
    turns: float | None = None
    """Responses per trajectory."""
    positive_share: float | None = None
    """Share of rows with a positive advantage."""
    infrastructure_failures: float | None = None

    @property
    def faults(self) -> float | None:
        """Trajectories without a verdict for a reason of ours; None if the line does not tell."""
        if self.infrastructure_failures is not None:
            return self.infrastructure_failures
        return None if self.outcomes is None else sum(self.outcomes.get(name, 0) for name in FAULTS)


class Rates(Record):
    """Rates on held-out tasks, 0..1, with their 95 % intervals."""

    pass_at_1: float | None = None
    """Mean over tasks, sampled as in training."""
    low: float | None = None
    high: float | None = None
    greedy: float | None = None
    """Share of tasks resolved at temperature 0."""
    greedy_low: float | None = None
    greedy_high: float | None = None
    tasks: int | None = None

    @property
    def of_greedy(self) -> "Rates":
        """The greedy rate where the sampled one stands."""
        return Rates(pass_at_1=self.greedy, low=self.greedy_low, high=self.greedy_high, tasks=self.tasks)


class HeldOut(Rates):
    """One held-out evaluation."""

    parts: dict[str, Rates] = {}
    """The same by kind of task."""


class HeldOutAt(HeldOut):
    """One line of heldout.jsonl."""

    step: int = Field(ge=0)
    """Steps of training before it."""


class Summary(Record):
    """summary.json."""

    heldout_before: HeldOut | None = None
    heldout_after: HeldOut | None = None
    steps: int | None = None
    wall_s: float | None = None
    model: str | None = None
    tasks: Any = None
    """The training tasks: a set's name, or how many."""


class Run(Frozen):
    """A run's directory, without its trajectories."""

    directory: Path
    steps: tuple[Step, ...]
    """At least one, ordered by `step`, each step once."""
    heldout: tuple[HeldOutAt, ...]
    """Evaluations by step: those of summary.json at the two ends, and those of heldout.jsonl elsewhere."""
    summary: Summary | None
    """None if the run never ended."""
    config: str | None
    """Text of config.yaml."""
    notes: tuple[str, ...]
    """What a reader of the numbers should know, one sentence each."""

    @property
    def last_step(self) -> int:
        """Number of the last step."""
        return self.steps[-1].step

    @property
    def ended(self) -> bool:
        """Has it? A run that was given more steps has the summary of its first end until it reaches the next."""
        return self.summary is not None and self.last_step <= (self.summary.steps or self.last_step)

    @property
    def wall_s(self) -> float | None:
        """Seconds that the run took, so far."""
        if self.ended and self.summary and self.summary.wall_s is not None:
            return self.summary.wall_s
        return max((step.wall_s for step in self.steps if step.wall_s is not None), default=None)

    @property
    def before(self) -> HeldOut | None:
        """The evaluation before the first step."""
        return next((one for one in self.heldout if one.step == 0), None)

    @property
    def after(self) -> HeldOutAt | None:
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
    def faults(self) -> float | None:
        """Failures of our side over all steps; None if no step tells."""
        told = [step.faults for step in self.steps if step.faults is not None]
        return math.fsum(value for value in told if math.isfinite(value)) if told else None

    def series(self, name: str) -> tuple[list[int], list[float]]:
        """Steps and values of one field of `Step`, as far as it is there and a finite number."""
        pairs = [(step.step, getattr(step, name)) for step in self.steps]
        kept = [(step, float(value)) for step, value in pairs if value is not None and math.isfinite(value)]
        return [step for step, _ in kept], [value for _, value in kept]


def read_run(directory: Path) -> Run:
    """Read a run's directory; raises `UserError` if it is none, or names file and line of what is damaged in it."""
    if not directory.is_dir():
        raise UserError(f"{directory}: no such directory; name the --out of a `swe-aem train`")
    metrics = directory / "metrics.jsonl"
    if not metrics.is_file():
        raise UserError(
            f"{directory} is not a training run: it has no metrics.jsonl; name the --out of a `swe-aem train`"
        )
    lines = list(read_lines(metrics, Step))
    if not lines:
        raise UserError(f"{metrics} has no finished step yet; call again when the first step is done")
    steps = _once_each(lines)
    summary = _read_summary(directory / "summary.json")
    heldout = _once_each(read_lines(directory / "heldout.jsonl", HeldOutAt))
    config = directory / "config.yaml"
    return Run(
        directory=directory,
        steps=steps,
        heldout=_with_ends(heldout, summary, steps[-1].step),
        summary=summary,
        config=config.read_text(encoding="utf-8", errors="replace") if config.is_file() else None,
        notes=tuple(_notes(lines, steps)),
    )


R = TypeVar("R", bound=Record)
At = TypeVar("At", Step, HeldOutAt)


def read_lines(path: Path, kind: type[R]) -> Iterator[R]:
    """The records of a file of JSON lines, none if there is no such file; raises `UserError` with file and line.

    A last line without its newline, as a killed writer leaves it, is left out if it is not a whole object.
    """
    lines = path.read_bytes().split(b"\n") if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line.decode())
        except ValueError:  # not JSON, or not UTF-8
            if number == len(lines):
                return
            raise UserError(f"{path}, line {number}: not a JSON object; delete that line and call again") from None
        yield _record(value, kind, f"{path}, line {number}")


def _record(value: object, kind: type[R], where: str) -> R:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        said = f"{name}: {first['msg']}" if name else "not a JSON object"
        raise UserError(f"{where}: {said}; mend or delete it, and call again") from None


def _read_summary(path: Path) -> Summary | None:
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_bytes().decode())
    except ValueError:
        raise UserError(f"{path} is not JSON; delete it to have the report without it") from None
    return _record(value, Summary, str(path))


def _once_each(lines: Iterator[At] | Sequence[At]) -> tuple[At, ...]:
    """Ordered by step. A run that was killed repeats the steps after its last checkpoint: the later line counts."""
    by_step = {line.step: line for line in lines}
    return tuple(by_step[step] for step in sorted(by_step))


def _with_ends(heldout: Sequence[HeldOutAt], summary: Summary | None, last_step: int) -> tuple[HeldOutAt, ...]:
    """The summary's evaluations are the run's last word on its two ends."""
    by_step = {one.step: one for one in heldout}
    ends = [(0, summary.heldout_before), (max(1, summary.steps or last_step), summary.heldout_after)] if summary else []
    for step, found in ends:
        if found is not None:
            by_step[step] = HeldOutAt(step=step, **{name: getattr(found, name) for name in HeldOut.model_fields})
    return tuple(by_step[step] for step in sorted(by_step))


def _notes(lines: Sequence[Step], steps: Sequence[Step]) -> Iterator[str]:
    if len(lines) > len(steps):
        yield f"{len(lines) - len(steps)} lines of metrics.jsonl were repeated by a resumed run; the later ones count."
    missing = sum(step.outcomes is None for step in steps)
    if 0 < missing < len(steps):
        yield f"{missing} of {len(steps)} steps do not tell their outcomes; their trajectories are in no count."
    for name in Step.model_fields:
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

    Only outcomes and places of the others are held in memory. Failures of our side are no examples. Empty without a
    store; raises `UserError` for a damaged one.
    """
    store = Store(directory / "rollouts")
    told = {key: entry for key, entry in store.index().items() if entry.outcome.value not in FAULTS}
    chosen: dict[TrajectoryKey, tuple[str, StoredRow]] = {}
    for what, outcome in (("Late, resolved", Outcome.RESOLVED), ("Late, unresolved", Outcome.UNRESOLVED)):
        key = next((key for key in reversed(told) if told[key].outcome is outcome), None)
        if key is not None:
            chosen[key] = (what, told[key])
    early = next((key for key in told if key not in chosen), None)
    if early is not None:
        chosen[early] = ("Early", told[early])
    return [Example(what=what, trajectory=store.load(entry)) for what, entry in chosen.values()]
