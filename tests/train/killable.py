"""Train the tiny policy on scripted steps, for tests: `killable.py MODEL OUT STEPS KILL_AT [SETTING...]`.

KILL_AT n > 0 ends this process by SIGKILL when step n is asked for; `save` does so within the first checkpoint. With
`asynchronous_checkpoints` others do so in the thread that writes the first checkpoint, after a further step was
trained: `begun`, before anything is written; `weights`, before the optimiser's state is; `written`, when all is;
`whole`, when it is where checkpoints are found.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import yaml

from swe_aem.core.settings import check
from swe_aem.testing.steps import ScriptedSteps
from swe_aem.train import checkpoints, loop
from swe_aem.train.checkpoint_writer import CheckpointWriter
from swe_aem.train.config import TrainConfig
from swe_aem.train.steps import Step

DEALT = ("num_minibatches=1", "micro_batch_size=1", "grpo={learning_rate: 0.5, optim: sgd}")
"""One row in a micro-batch, and an optimiser that shows differences of gradients as they are."""


def configuration(model: Path, steps: int, *settings: str) -> TrainConfig:
    """A short run of scripted steps on the tiny policy, with changes `name=value`."""
    values: dict[str, Any] = {
        "model": str(model),
        "steps": steps,
        "groups_per_step": 4,
        "num_minibatches": 2,
        "micro_batch_size": 4,
        "save_every": 2,
        "rollout": {"group_size": 4, "native": {"max_context_tokens": 64}},
        "grpo": {"learning_rate": 0.01, "lr_scheduler_type": "linear"},
        "heldout": None,
        "device": "cpu",
    }
    for setting in settings:
        name, _, value = setting.partition("=")
        values[name] = yaml.safe_load(value)
    return check(TrainConfig, values)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


FURTHER = 4
"""The step that is asked for when the one after the first checkpoint was trained."""


def die_in_thread(kill_at: str, trained: Event) -> None:
    """Have the thread die that writes a checkpoint, once `trained` is set."""

    def then_die(*args: Any, **kwargs: Any) -> None:
        trained.wait()
        die()

    write = CheckpointWriter._write

    def in_the_middle(self: Any, later: Any) -> None:
        later.work[1:] = [then_die]
        write(self, later)

    places: dict[str, tuple[Any, str, Callable[..., None]]] = {
        "begun": (CheckpointWriter, "_write", then_die),
        "weights": (CheckpointWriter, "_write", in_the_middle),
        "written": (CheckpointWriter, "_complete", then_die),
        "whole": (checkpoints, "remove_old", then_die),
    }
    setattr(*places[kill_at])


def main(model: str, out: str, steps: str, kill_at: str, *settings: str) -> None:
    """Train, and die as told."""

    trained = Event()

    class Killable(ScriptedSteps):
        def step(self, number: int) -> Step:
            if number == FURTHER:
                trained.set()
            if str(number) == kill_at:
                die()
            return super().step(number)

    if kill_at == "save":

        def torn(self: Any, *args: Any, **kwargs: Any) -> None:
            saved(self, *args, **kwargs)
            die()

        saved = loop.AgentGRPOTrainer._save_optimizer_and_scheduler
        loop.AgentGRPOTrainer._save_optimizer_and_scheduler = torn  # type: ignore[method-assign]
    elif not kill_at.isdigit():
        die_in_thread(kill_at, trained)

    loop.train(configuration(Path(model), int(steps), *settings), Path(out), Killable)


if __name__ == "__main__":
    main(*sys.argv[1:])
