"""`Feed`: the `rollout_func` of the trainer. The first process fetches a step's groups and shares the rows with all.

TRL's data set holds placeholders: prompts come from the trajectories, and `num_generations` consecutive rows, over all
processes, are one group. The step's number follows from the trainer's own, so a resumed run asks for the right one.
"""

from collections.abc import Mapping
from typing import Any

from trl.trainer.grpo_trainer import GRPOTrainer

from swe_aem.train.policies import whole_weights
from swe_aem.train.processes import Processes
from swe_aem.train.step_clock import StepClock
from swe_aem.train.steps import Step, StepSource
from swe_aem.train.training_row import TrainingRow, training_row

SLOT = "slot"
"""Placeholder for a prompt in the data set."""


class Feed:
    """Serves the whole groups of a `StepSource` as training rows."""

    def __init__(
        self,
        source: StepSource | None,
        processes: Processes,
        *,
        num_minibatches: int,
        clock: StepClock,
        compact_filtering: bool = True,
    ) -> None:
        """`source` is None on all processes but the first, where it shares the `clock`."""
        self._source = source
        self._processes = processes
        self._num_minibatches = num_minibatches
        self._clock = clock
        self._compact_filtering = compact_filtering
        self.last: Step | None = None
        """The latest step, on the first process."""

    def __call__(self, prompts: list[str], trainer: GRPOTrainer) -> dict[str, list[Any]]:
        """This process's rows of the next step, as many as there are prompts."""
        index, count = self._processes.index, self._processes.count
        number = trainer.state.global_step // self._num_minibatches + 1
        with self._clock.phase("weights"):
            weights = whole_weights(trainer)
        rolled_out = self._processes.first_does(f"step {number}", lambda: self._rows(number, trainer, weights))
        rows = self._processes.share(rolled_out)
        mine = rows[index * len(prompts) : (index + 1) * len(prompts)]
        if len(mine) != len(prompts) or len(rows) != len(prompts) * count:
            raise ValueError(f"step {number} has {len(rows)} rows for {len(prompts)} slots of each process")
        return {name: [row[name] for row in mine] for name in mine[0]}

    def _rows(self, number: int, trainer: GRPOTrainer, weights: Mapping[str, Any]) -> list[TrainingRow]:
        assert self._source is not None
        with self._clock.phase("rollout_wait"):
            step = self.last = self._source.step(number, weights)
        rows = [
            training_row(one, compact_filtering=self._compact_filtering, limits_reward=step.limits_reward)
            for group in step.groups
            for one in group
        ]
        return [row if row["completion_ids"] else _padded(row, trainer) for row in rows]


def _padded(row: TrainingRow, trainer: GRPOTrainer) -> TrainingRow:
    """The row of a trajectory in which nothing was sampled: one token of padding, without loss."""
    tokenizer: Any = trainer.processing_class
    pad = tokenizer.pad_token_id
    return {
        **row,
        "prompt_ids": [pad],
        "completion_ids": [pad],
        "logprobs": [0.0],
        "env_mask": [0],
        "response_of_token": [-1],
        "response_rewards": None,
    }
