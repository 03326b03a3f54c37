"""Train the tiny policy on scripted steps, for tests: `killable.py MODEL OUT STEPS KILL_AT [SETTING...]`.

KILL_AT n > 0 ends this process by SIGKILL when step n is asked for; `save` does so within the first checkpoint.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import yaml

from swe_aem.core.settings import check
from swe_aem.testing.steps import ScriptedSteps
from swe_aem.train import loop
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


def main(model: str, out: str, steps: str, kill_at: str, *settings: str) -> None:
    """Train, and die as told."""

    class Killable(ScriptedSteps):
        def step(self, number: int) -> Step:
            if str(number) == kill_at:
                die()
            return super().step(number)

    if kill_at == "save":

        def torn(self: Any, *args: Any, **kwargs: Any) -> None:
            saved(self, *args, **kwargs)
            die()

        saved = loop.AgentGRPOTrainer._save_optimizer_and_scheduler
        loop.AgentGRPOTrainer._save_optimizer_and_scheduler = torn  # type: ignore[method-assign]

    loop.train(configuration(Path(model), int(steps), *settings), Path(out), Killable)


if __name__ == "__main__":
    main(*sys.argv[1:])
