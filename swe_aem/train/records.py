"""What a training run records about itself: the trainer writes these, reports read them. Importable without torch.

    DIR/metrics.jsonl    a `StepMetrics` per step
    DIR/heldout.jsonl    a `HeldoutResult` per evaluation
    DIR/summary.json     the `RunSummary`, once the run has ended

Records of older formats are upgraded as they are read (`swe_aem.store.upgrade`). A process may be killed while it
writes: a last line that is not whole is left out.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ConfigDict, Field, ValidationError

from swe_aem.core.base import Frozen
from swe_aem.core.explain import explain
from swe_aem.errors import UserError
from swe_aem.fleet.figures import FleetFigures
from swe_aem.store import replace
from swe_aem.store.upgrade import FORMAT, upgrade_heldout, upgrade_step, upgrade_summary
from swe_aem.train.step_clock import Phase

METRICS, HELDOUT, SUMMARY = "metrics.jsonl", "heldout.jsonl", "summary.json"
PHASES = tuple(f"{phase}_s" for phase in get_args(Phase))
"""Fields of `StepMetrics` that divide the seconds of a step: each second is in one of them."""
OLD_PHASES = ("rollout_wait_s", "train_s")
"""The same for lines that were written before there were these."""
_NOT_TRAINING: tuple[Phase, ...] = ("rollout_wait", "weights", "evaluation")


class RolloutMetrics(Frozen):
    """The rollouts of one step in numbers, rejected groups included. None: not measured, or the line lacks the key."""

    resolved_rate: float | None = None
    """Share of the trajectories with a verdict that resolved their task, 0..1."""
    mean_reward: float | None = None
    """Mean reward of the trajectories that have one; `reward` is that of the rows that are trained on."""
    reward_terms: dict[str, float | None] | None = None
    """Mean of each named term of the reward before its weight, over the trajectories that have it."""
    outcomes: dict[str, int] | None = None
    """Trajectories by outcome."""
    infrastructure_failures: int | None = None
    """Trajectories that every attempt failed for; in no rate."""
    broken_tasks: tuple[str, ...] | None = None
    """Tasks that are broken, by id: their groups are dropped."""
    retries: int | None = None
    """Attempts that ended in an infrastructure failure and were repeated."""
    groups: int | None = None
    """Groups that are trained on."""
    rejected_groups: int | None = None
    """Groups that were rolled out and are not trained on: zero-variance groups beyond those needed."""
    zero_variance_groups: int | None = None
    """Groups that are trained on and whose rewards are equal, so that every advantage in them is 0."""
    turns: float | None = None
    """Responses per trajectory."""
    sampled_tokens: int | None = None
    """Tokens that the policy sampled in the trajectories' own streams, branches left out."""
    branch_share: float | None = None
    """Share of the sampled tokens, those of branches included, that are in branches, 0..1. They are not trained on, but
    for those in `branch_token_share`."""
    tokens_per_s: float | None = None
    """Sampled tokens per second of rollout."""
    tool_failure_rate: float | None = None
    """Share of tool calls whose command failed, 0..1."""
    malformed_rate: float | None = None
    """Share of tool calls that could not be parsed, 0..1."""
    converted_rate: float | None = None
    """Share of tool calls with an argument that was converted without loss to fit its schema, 0..1."""
    version: int | None = None
    """Latest version of the weights that sampled."""
    staleness: float | None = None
    """How many versions the weights that sampled were behind those that are trained, mean over responses."""
    max_age: int | None = None
    """The same of the oldest token of the groups that are trained on: at most `max_staleness`."""
    queued_groups: int | None = None
    """Complete groups that the step left in the queue."""
    running_groups: int | None = None
    """Groups that were being rolled out when the step took its own."""
    held_back_s: float | None = None
    """Seconds of `rollout_wait_s` in which enough groups were complete, and the step waited for older ones."""
    dropped_groups: int | None = None
    """Groups that got older than `max_staleness`, with `stale: drop`."""
    dropped_by_length: dict[str, float] | None = None
    """Share of the step's groups that were dropped, by quarter of their sampled tokens, of which `q1` are the shortest;
    empty if none was dropped."""
    rollout_s: float | None = None
    """Seconds from the first sandbox to the last verdict; 0 if all trajectories were in the store."""
    fleet: FleetFigures | None = None
    """How the hosts of a cluster fared since the step before; None without one, and for a step that an earlier process
    took its groups of."""


class StepMetrics(RolloutMetrics):
    """One line of `metrics.jsonl`: a step's rollouts, its seconds, and what the trainer logged of it.

    Names with a slash are the trainer's; figures of TRL's that have no field here are kept as extra keys.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    format: int = FORMAT
    step: int = Field(ge=0)
    """Number of the step, from 1."""
    wall_s: float | None = None
    """Seconds since the start of training, over all processes that worked on the run."""
    step_s: float | None = None
    """Seconds from the line before, or the start of training, to this one: the sum of the fields in `PHASES`."""
    rollout_wait_s: float | None = None
    """Seconds that training waited for the step's rollouts. Lines without `step_s` count `weights_s` here."""
    weights_s: float | None = None
    """Seconds in which training gathered its weights and waited until the policy that samples had them."""
    scoring_s: float | None = None
    """Seconds of passes over the step's rows with the old policy, and of their advantages."""
    optimising_s: float | None = None
    """Seconds of forward and backward passes and of the optimiser."""
    evaluation_s: float | None = None
    """Seconds of the evaluation after the step."""
    checkpoint_s: float | None = None
    """Seconds of writing the checkpoint of the step before, which is saved after that one's line."""
    other_s: float | None = None
    """The other seconds, such as those of dealing out rows and of trackers."""
    train_s: float | None = None
    """Seconds of the step in which training neither waited for rollouts or weights nor evaluated."""
    loss: float | None = None
    grad_norm: float | None = None
    learning_rate: float | None = None
    reward: float | None = None
    """Mean reward of the rows that are trained on. `resolved_rate` counts rejected groups too."""
    estimator: str | None = None
    """Name that the metrics of the advantage estimator begin with, before a slash."""
    entropy_estimator: str | None = None
    """What the entropies are that the advantage estimator was given: exact, those of the trainer's own pass; top20 or
    surprisal, estimates of the sampler."""
    positive_share: float | None = None
    """Share of positive advantages among the base advantages that are not 0, 0..1."""
    response_entropy: float | None = Field(default=None, alias="aem/response_entropy")
    """Mean entropy of the old policy over responses, nats per token."""
    entropy_min: float | None = Field(default=None, alias="aem/entropy_min")
    """Lowest entropy of a group's responses, mean over groups, nats per token."""
    entropy_max: float | None = Field(default=None, alias="aem/entropy_max")
    """Highest entropy of a group's responses, mean over groups."""
    entropy_range: float | None = Field(default=None, alias="aem/entropy_range")
    """`entropy_max` minus `entropy_min`: AEM leaves a group below `advantage.min_range` unchanged."""
    alpha_min: float | None = Field(default=None, alias="aem/alpha_min")
    alpha_max: float | None = Field(default=None, alias="aem/alpha_max")
    alpha_std: float | None = Field(default=None, alias="aem/alpha_std")
    alpha_token_mean: float | None = Field(default=None, alias="aem/alpha_token_mean")
    """Mean factor over trained tokens: how AEM changes the size of a step, since only the mean over responses is 1."""
    unmodulated_share: float | None = Field(default=None, alias="aem/unmodulated_share")
    """Share of responses that AEM leaves unchanged: their factor is exactly 1."""
    clip_low: float | None = Field(default=None, alias="clip_ratio/low_mean")
    clip_high: float | None = Field(default=None, alias="clip_ratio/high_mean")
    importance_mean: float | None = Field(default=None, alias="importance/mean")
    """Ratio of the old policy's probability of a token to that at which it was sampled, mean over trained tokens."""
    importance_min: float | None = Field(default=None, alias="importance/min")
    importance_max: float | None = Field(default=None, alias="importance/max")
    importance_k3_kl: float | None = Field(default=None, alias="importance/k3_kl")
    """Mean of r - 1 - log r: estimates the divergence of the old policy from the sampler, nats per token."""
    importance_abs_log_ratio: float | None = Field(default=None, alias="importance/abs_log_ratio")
    """Mean |log r|, nats per token."""
    importance_low_share: float | None = Field(default=None, alias="importance/low_share")
    """Share of trained tokens whose ratio, or whose trajectory's mean ratio, is below importance_sampling.low."""
    importance_high_share: float | None = Field(default=None, alias="importance/high_share")
    """The same above importance_sampling.high."""
    branch_row_share: float | None = Field(default=None, alias="branches/row_share")
    """Share of the rows with a trained token that are those of branches, with `branches_per_trajectory`."""
    branch_token_share: float | None = Field(default=None, alias="branches/token_share")
    """The same of trained tokens."""
    compile_graphs: int | None = Field(default=None, alias="compile/graphs")
    """Graphs that torch compiled in the step, with the setting `compile`: after the first steps, recompilations."""
    compile_graph_breaks: int | None = Field(default=None, alias="compile/graph_breaks")
    """Places at which a layer had to be divided into several graphs when these were compiled."""
    compile_s: float | None = Field(default=None, alias="compile/s")
    """Seconds of compiling; they are part of `scoring_s` and `optimising_s`."""

    def seconds_of_phases(self) -> dict[str, float]:
        """Seconds of the step by the field that has them, each second once: those of `PHASES`, and of a line that is
        older than these those of `OLD_PHASES`. A field that was not measured is left out."""
        names = OLD_PHASES if self.step_s is None else PHASES
        found = {name: getattr(self, name) for name in names}
        return {name: value for name, value in found.items() if value is not None and math.isfinite(value)}

    def of_estimator(self) -> dict[str, float]:
        """Metrics of the advantage estimator that have no field here, without its name."""
        prefix = f"{self.estimator}/"
        own = {
            name.removeprefix(prefix): value
            for name, value in (self.model_extra or {}).items()
            if name.startswith(prefix)
        }
        return {name: float(value) for name, value in own.items() if isinstance(value, int | float)}

    @staticmethod
    def joined(
        rollouts: RolloutMetrics,
        logged: Mapping[str, Any],
        *,
        step: int,
        wall_s: float,
        seconds: Mapping[Phase, float],
        estimator: str | None = None,
        entropy_estimator: str | None = None,
    ) -> "StepMetrics":
        """A step's line; `seconds` are those of each phase of it. Of what the trainer `logged`, the epoch means nothing
        here, and the mean and deviation of its only reward function are those of `reward` and `reward_std` again."""
        kept = {name: value for name, value in logged.items() if name != "epoch" and not name.startswith("rewards/")}
        own = {
            "step": step,
            "estimator": estimator,
            "entropy_estimator": entropy_estimator,
            "wall_s": wall_s,
            **_phases(seconds),
        }
        return StepMetrics.model_validate({**kept, **rollouts.model_dump(), **own})

    def line(self) -> str:
        """The JSON object with its newline; null where a value is not a finite number."""
        values = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in self.model_dump(by_alias=True).items()
        }
        return json.dumps(values) + "\n"


class HeldoutRates(Frozen):
    """Rates on held-out tasks in 0..1, with their 95 % intervals over tasks. None: not measured."""

    tasks: int | None = None
    pass_at_1: float | None = None
    """Mean over tasks, sampled at the training temperature."""
    low: float | None = None
    high: float | None = None
    greedy: float | None = None
    """Share of tasks resolved at temperature 0."""
    greedy_low: float | None = None
    greedy_high: float | None = None
    faults: int = 0
    """Trajectories without a verdict, which are in no rate: infrastructure failures."""

    @property
    def of_greedy(self) -> "HeldoutRates":
        """The greedy rate and its interval in the place of the sampled ones."""
        return HeldoutRates(tasks=self.tasks, pass_at_1=self.greedy, low=self.greedy_low, high=self.greedy_high)


class HeldoutScore(HeldoutRates):
    """One evaluation: rates over all tasks, and by part of the set."""

    parts: dict[str, HeldoutRates] = {}


class HeldoutResult(HeldoutScore):
    """One line of `heldout.jsonl`."""

    format: int = FORMAT
    step: int = Field(ge=0)
    """Steps of training before the evaluation."""

    @staticmethod
    def after(step: int, score: HeldoutScore) -> "HeldoutResult":
        """The line for an evaluation after that many steps."""
        return HeldoutResult(step=step, **{name: getattr(score, name) for name in HeldoutScore.model_fields})


class RunSummary(Frozen):
    """Content of `summary.json`."""

    format: int = FORMAT
    model: str
    tasks: str
    steps: int
    wall_s: float
    """Seconds of all processes that worked on the run, evaluations included."""
    heldout_before: HeldoutScore | None = None
    heldout_after: HeldoutScore | None = None


R = TypeVar("R", bound=Frozen)
Upgrade = Callable[[Mapping[str, Any], str], dict[str, Any]]


def read_metrics(directory: Path) -> list[StepMetrics]:
    """The lines of a run's `metrics.jsonl` in the order of writing, none if there is no such file: a resumed run may
    have repeated steps. Raises `UserError` that names file and line of what is damaged."""
    return list(read_lines(directory / METRICS, StepMetrics, upgrade_step))


def read_heldout(directory: Path) -> list[HeldoutResult]:
    """The lines of a run's `heldout.jsonl`, as `read_metrics` reads its file."""
    return list(read_lines(directory / HELDOUT, HeldoutResult, upgrade_heldout))


def read_run_summary(directory: Path) -> RunSummary | None:
    """A run's `summary.json`, None if there is none; raises `UserError` if it cannot be understood."""
    path = directory / SUMMARY
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_bytes().decode())
    except ValueError:
        raise UserError(f"{path} is not JSON; delete it, and the run counts as not ended") from None
    return _record(value, RunSummary, upgrade_summary, str(path))


def write_heldout(directory: Path, result: HeldoutResult) -> None:
    """Put a line into `heldout.jsonl`, in place of one of the same step; lines are ordered by step."""
    others = [line for line in read_heldout(directory) if line.step != result.step]
    lines = sorted([*others, result], key=lambda line: line.step)
    replace(directory / HELDOUT, "".join(line.model_dump_json() + "\n" for line in lines))


def write_run_summary(directory: Path, summary: RunSummary) -> None:
    """Replace `summary.json`."""
    replace(directory / SUMMARY, summary.model_dump_json(indent=2) + "\n")


def read_lines(path: Path, kind: type[R], upgrade: Upgrade) -> Iterator[R]:
    """The records of a file of one JSON object per line, none if there is no such file; a last line that is not whole
    is left out. Raises `UserError` that names file and line of what is damaged."""
    lines = path.read_bytes().split(b"\n") if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line.decode())
        except ValueError:  # not JSON, or not UTF-8
            if number == len(lines):
                return  # a killed process left a part of a line
            raise UserError(f"{path}, line {number}: not a JSON object; delete that line and call again") from None
        yield _record(value, kind, upgrade, f"{path}, line {number}")


def _phases(seconds: Mapping[Phase, float]) -> dict[str, float]:
    """The fields of a step's line that the seconds of its phases give."""
    found = {f"{phase}_s": seconds.get(phase, 0.0) for phase in get_args(Phase)}
    train_s = sum(value for phase, value in seconds.items() if phase not in _NOT_TRAINING)
    return {"step_s": sum(found.values()), **found, "train_s": train_s}


def _record(value: object, kind: type[R], upgrade: Upgrade, where: str) -> R:
    if not isinstance(value, dict):
        raise UserError(f"{where}: not a JSON object; fix or delete it, and call again")
    try:
        return kind.model_validate(upgrade(value, where))
    except ValidationError as error:
        raise UserError(f"{where}: {explain(error, kind)}; fix or delete it, and call again") from None
