"""`metrics.jsonl`: one JSON object per step, written when the step is over; and the line that a person sees."""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

from transformers.trainer_callback import TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from swe_aem.store.files import replace
from swe_aem.train.feed import Feed

FILE = "metrics.jsonl"


class Journal(TrainerCallback):
    """Joins TRL's figures with those of the rollouts. On the first process only, and before callbacks that evaluate,
    whose seconds are not those of a step."""

    def __init__(self, directory: Path, feed: Feed, *, num_minibatches: int, steps: int, done: int) -> None:
        """`done` steps are behind us; lines of later ones, which a killed run may have left, are taken back."""
        self._path = directory / FILE
        self._feed = feed
        self._num_minibatches = num_minibatches
        self._steps = steps
        kept = [line for line in read_lines(self._path) if line["step"] <= done]
        replace(self._path, "".join(json.dumps(line) + "\n" for line in kept))
        self._earlier_s = kept[-1]["wall_s"] if kept else 0.0
        self._began = self._mark = self._step_end = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Note the time: the line is written after all callbacks have seen the end of the step."""
        self._step_end = time.monotonic()

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
        now = time.monotonic()
        line: dict[str, Any] = {
            "step": step.number,
            "wall_s": self._earlier_s + now - self._began,
            **step.figures(),
            "wait_s": self._feed.wait_s,
            "train_s": self._step_end - self._mark - self._feed.wait_s,
            **{name: value for name, value in logs.items() if name not in ("epoch",)},
        }
        self._mark = now
        line = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in line.items()
        }
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(self._told(line), file=sys.stderr, flush=True)

    def _told(self, line: dict[str, Any]) -> str:
        left = (self._steps - line["step"]) * (line["wait_s"] + max(line["train_s"], 0.0))
        rate, entropy = line["resolved_rate"], line.get("aem/response_entropy")
        parts = [
            f"step {line['step']}/{self._steps}",
            "resolved " + ("-" if rate is None else f"{rate:.0%}"),
            *([f"entropy {entropy:.3f}"] if entropy is not None else []),
            *([f"{line['infrastructure_failures']} failures of our side"] if line["infrastructure_failures"] else []),
            f"rollout {line['rollout_s']:.1f} s, train {line['train_s']:.1f} s",
            f"about {left:.0f} s to go",
        ]
        return "  ".join(parts)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file that may not be there; a torn last one, which a killed process left, is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]
