"""`Feed`: the `rollout_func` of the trainer. The first process fetches a step's groups and deals the rows to all.

TRL's data set holds placeholders: prompts come from the trajectories. Each process gets its own rows only, and each row
says where it was before rows were dealt. The step's number follows from the trainer's own, so a resumed run asks for
the right one.
"""

from typing import Any, NamedTuple

from trl.trainer.grpo_trainer import GRPOTrainer

from swe_aem.core.policy import EntropyEstimator
from swe_aem.train.dealing import Dealing, busy_share
from swe_aem.train.lost import unless_lost
from swe_aem.train.processes import Processes
from swe_aem.train.step_clock import StepClock
from swe_aem.train.steps import Step, StepSource
from swe_aem.train.training_row import DealtRow, TrainingRow, branch_rows, entropy_estimator, training_row
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
        branches_per_trajectory: int = 0,
    ) -> None:
        """`source` is None on all processes but the first. `updates` brings its policy to the trained weights. With
        `branches_per_trajectory` a step has more rows than slots, those of branches behind those of trajectories."""
        self._source = source
        self._processes = processes
        self._updates = updates
        self._dealing = dealing
        self._clock = clock
        self._compact_filtering = compact_filtering
        self._routing_replay = routing_replay
        self._branches = branches_per_trajectory
        self.last: Step | None = None
        """The latest step, on the first process."""
        self.entropy: EntropyEstimator = "surprisal"
        """What the sampler's entropies in its rows are estimated by."""

    def __call__(self, prompts: list[str], trainer: GRPOTrainer) -> dict[str, list[Any]]:
        """This process's rows of the next step, as many as there are prompts, and equally many further ones on each
        process if branches are trained on."""
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

    def _dealt(self, step: "StepRows", number: int, slots: int, trainer: GRPOTrainer) -> list[list[DealtRow]]:
        """The rows of each process, micro-step after micro-step. Notes how much of its time a process will work, and
        which share of the rows are branches'."""
        count, noted = self._processes.count, trainer._metrics["train"]
        if len(step.rows) != slots * count:
            raise ValueError(f"step {number} has {len(step.rows)} rows for {slots} slots of each process")
        if self._branches:
            for name, share in step.shares_of_branches().items():
                noted[name].append(share)
        rows, trajectories = step.filled(count * self._dealing.num_minibatches, _padded(step.rows[0], trainer))
        lengths = [len(row["prompt_ids"]) + len(row["completion_ids"]) for row in rows]
        micro_steps = self._dealing.micro_steps(lengths, count, number)
        if count > 1:
            share = busy_share(micro_steps, lengths, self._dealing.cost)
            noted["dealing/busy_share"].append(share)
        return [
            [
                {**rows[place], "place": place, "trajectory": trajectories[place], "micro_step": number}
                for number, micro_step in enumerate(micro_steps)
                for place in micro_step[process]
            ]
            for process in range(count)
        ]

    def _wants_weights(self, number: int) -> bool:
        assert self._source is not None
        return self._source.wants_weights(number)

    def _rows(self, number: int, trainer: GRPOTrainer) -> "StepRows":
        assert self._source is not None
        with self._clock.phase("rollout_wait"):
            step = self.last = self._source.step(number)
        trajectories = [one for group in step.groups for one in group]
        self.entropy = entropy_estimator(trajectories, self._branches)
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
        branches = [
            branch_rows(one, row, most=self._branches, entropy=self.entropy)
            for one, row in zip(trajectories, rows, strict=True)
        ]
        return StepRows([row if row["completion_ids"] else _padded(row, trainer) for row in rows], branches)


class StepRows(NamedTuple):
    """The rows of a step."""

    rows: list[TrainingRow]
    """Those of its trajectories, group after group."""
    branches: list[list[TrainingRow]]
    """Those of the branches of each trajectory."""

    def filled(self, multiple: int, empty: TrainingRow) -> tuple[list[TrainingRow], list[int]]:
        """All rows in the order of places, with `empty` ones at the end where they are no multiple, and for each the
        place of its trajectory's row."""
        rows, trajectories = list(self.rows), list(range(len(self.rows)))
        for trajectory, branches in enumerate(self.branches):
            rows += branches
            trajectories += [trajectory] * len(branches)
        missing = -len(rows) % multiple
        return rows + [empty] * missing, trajectories + [0] * missing

    def shares_of_branches(self) -> dict[str, float]:
        """Share of the rows with a trained token, and of trained tokens, that are branches'; none without any."""
        own = [sum(row["env_mask"]) for row in self.rows]
        beside = [sum(row["env_mask"]) for rows in self.branches for row in rows]
        if not any(own):
            return {}
        rows = sum(map(bool, own)) + len(beside)
        return {
            "branches/row_share": len(beside) / rows,
            "branches/token_share": sum(beside) / (sum(own) + sum(beside)),
        }


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
