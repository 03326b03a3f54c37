"""`Feed`: the `rollout_func` of the trainer. The first process fetches a step's groups and deals the rows to all.

TRL's data set holds placeholders: prompts come from the trajectories. Each process gets its own rows only, and each row
says where it was before rows were dealt. The step's number follows from the trainer's own, so a resumed run asks for
the right one.
"""

from collections.abc import Sequence
from typing import Any

from trl.trainer.grpo_trainer import GRPOTrainer

from swe_aem.core.policy import EntropyEstimator
from swe_aem.train.dealing import Dealing, busy_share
from swe_aem.train.lost import unless_lost
from swe_aem.train.processes import Processes
from swe_aem.train.step_clock import StepClock
from swe_aem.train.steps import Step, StepSource
from swe_aem.train.training_row import DealtRow, TrainingRow, entropy_estimator, training_row
from swe_aem.train.weight_updates import WeightUpdates

SLOT = "slot"
"""Placeholder for a prompt in the data set."""


class Feed:
    """Serves the whole groups of a `StepSource` as training rows."""

    def __init__(
        self,
        source: StepSource | None,
        processes: Processes,
        updates: WeightUpdates,
        *,
        dealing: Dealing,
        clock: StepClock,
        compact_filtering: bool = True,
        routing_replay: bool = False,
    ) -> None:
        """`source` is None on all processes but the first. `updates` brings its policy to the trained weights."""
        self._source = source
        self._processes = processes
        self._updates = updates
        self._dealing = dealing
        self._clock = clock
        self._compact_filtering = compact_filtering
        self._routing_replay = routing_replay
        self.last: Step | None = None
        """The latest step, on the first process."""
        self.entropy: EntropyEstimator = "surprisal"
        """What the sampler's entropies in its rows are estimated by."""

    def __call__(self, prompts: list[str], trainer: GRPOTrainer) -> dict[str, list[Any]]:
        """This process's rows of the next step, as many as there are prompts."""
        number = trainer.state.global_step // self._dealing.num_minibatches + 1
        while (mine := self._rolled_out(number, len(prompts), trainer)) is None:
            """The rollouts were lost meanwhile."""
        return {name: [row[name] for row in mine] for name in mine[0]}

    def _rolled_out(self, number: int, slots: int, trainer: GRPOTrainer) -> list[DealtRow] | None:
        """This process's rows of a step; None, on all processes, if the rollouts were lost meanwhile."""
        with self._clock.phase("weights"):
            self._updates.bring(number - 1, lambda: self._wants_weights(number))
        dealt = self._processes.first_does(
            f"step {number}",
            lambda: unless_lost(lambda: self._dealt(self._rows(number, trainer), number, slots, trainer)),
        )
        return self._processes.scatter(dealt or [None] * self._processes.count)

    def _dealt(
        self, rows: Sequence[TrainingRow], number: int, slots: int, trainer: GRPOTrainer
    ) -> list[list[DealtRow]]:
        """The rows of each process, micro-step after micro-step. Notes how much of its time a process will work."""
        count = self._processes.count
        if len(rows) != slots * count:
            raise ValueError(f"step {number} has {len(rows)} rows for {slots} slots of each process")
        lengths = [len(row["prompt_ids"]) + len(row["completion_ids"]) for row in rows]
        micro_steps = self._dealing.micro_steps(lengths, count, number)
        if count > 1:
            share = busy_share(micro_steps, lengths, self._dealing.cost)
            trainer._metrics["train"]["dealing/busy_share"].append(share)
        return [
            [
                {**rows[place], "place": place, "micro_step": number}
                for number, micro_step in enumerate(micro_steps)
                for place in micro_step[process]
            ]
            for process in range(count)
        ]

    def _wants_weights(self, number: int) -> bool:
        assert self._source is not None
        return self._source.wants_weights(number)

    def _rows(self, number: int, trainer: GRPOTrainer) -> list[TrainingRow]:
        assert self._source is not None
        with self._clock.phase("rollout_wait"):
            step = self.last = self._source.step(number)
        trajectories = [one for group in step.groups for one in group]
        self.entropy = entropy_estimator(trajectories)
        rows = [
            training_row(
                one,
                compact_filtering=self._compact_filtering,
                limits_reward=step.limits_reward,
                entropy=self.entropy,
                routing_replay=self._routing_replay,
            )
            for one in trajectories
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
        "response_entropies": [],
    }
