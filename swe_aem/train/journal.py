"""`metrics.jsonl`: one JSON object per step, written when the step is over; and the line that a person sees."""

from pathlib import Path
from typing import Any

from transformers.trainer_callback import TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from swe_aem.advantage.config import Entropy
from swe_aem.runlog import tell
from swe_aem.store import replace
from swe_aem.train.feed import Feed
from swe_aem.train.records import METRICS, StepMetrics, read_metrics
from swe_aem.train.step_clock import StepClock
from swe_aem.train.trackers import Trackers


class Journal(TrainerCallback):
    """Joins TRL's metrics with those of the rollouts. On the first process only, and before callbacks that evaluate:
    their seconds are not those of optimising."""

    def __init__(
        self,
        directory: Path,
        feed: Feed,
        *,
        num_minibatches: int,
        steps: int,
        done: int,
        clock: StepClock,
        trackers: Trackers | None = None,
        estimator: str | None = None,
        entropy: Entropy = "exact",
    ) -> None:
        """`done` steps are trained; lines of later ones, which a killed run may have left, are taken back. `clock` is
        that of all that has phases of its own. `trackers` get each line too. `estimator` is the name that the advantage
        estimator's metrics begin with, `entropy` where its entropies come from."""
        self._path = directory / METRICS
        self._feed = feed
        self._num_minibatches = num_minibatches
        self._steps = steps
        self._estimator = estimator
        self._entropy: Entropy = entropy
        kept = [metrics for metrics in read_metrics(directory) if metrics.step <= done]
        replace(self._path, "".join(metrics.line() for metrics in kept))
        self._wall_s = (kept[-1].wall_s or 0.0) if kept else 0.0
        self._clock = clock
        self._trackers = trackers
        self._done = done

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the clock: an evaluation before training is no part of the first step."""
        self._clock.start_step(self._done + 1)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """An update begins, which asks for the step's rollouts where it is the first one of a step."""
        self._clock.begin("optimising")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The update has ended; other callbacks and the step's line come after it."""
        self._clock.end()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Write a line; TRL logs once per step, and once more at the end, which is left out."""
        step = self._feed.last
        if logs is None or step is None or "loss" not in logs:
            return
        seconds = self._clock.end_step()
        self._wall_s += sum(seconds.values())
        metrics = StepMetrics.joined(
            step.metrics(),
            logs,
            step=step.number,
            wall_s=self._wall_s,
            seconds=seconds,
            estimator=self._estimator,
            entropy_estimator="exact" if self._entropy == "exact" else self._feed.entropy,
        )
        with self._path.open("a", encoding="utf-8") as file:
            file.write(metrics.line())
        if self._trackers is not None:
            self._trackers.log(metrics)
        tell(progress_line(metrics, self._steps))


def progress_line(metrics: StepMetrics, steps: int) -> str:
    """What a person sees of a step, the seconds that the rest of `steps` will take included."""
    left_s = (steps - metrics.step) * ((metrics.step_s or 0.0) - (metrics.evaluation_s or 0.0))
    rate, entropy, failures = metrics.resolved_rate, metrics.response_entropy, metrics.infrastructure_failures
    parts = [
        f"step {metrics.step}/{steps}",
        "resolved " + ("-" if rate is None else f"{rate:.0%}"),
        *([f"entropy {entropy:.3f}"] if entropy is not None else []),
        *([f"{failures:.0f} infrastructure failures"] if failures else []),
        *([f"dropped, for the task is broken: {', '.join(metrics.broken_tasks)}"] if metrics.broken_tasks else []),
        f"rollout {metrics.rollout_s or 0.0:.1f} s, train {metrics.train_s or 0.0:.1f} s",
        f"about {left_s:.0f} s to go",
    ]
    return "  ".join(parts)
