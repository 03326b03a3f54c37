"""Fine-tune a model on rows of random tokens, for tests: `killable_sft.py MODEL OUT KILL_AT` ends this process by
SIGKILL at that forward pass, or within the second checkpoint (`save`)."""

import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swe_aem.testing.steps import VOCABULARY
from swe_aem.train.sft import SFTConfig, fine_tune
from swe_aem.train.sft_trainer import SupervisedTrainer

SETTINGS = SFTConfig(epochs=3, batch_size=4, micro_batch_size=2, learning_rate=0.01, save_every=2)
"""Nine updates of two passes each, three in an epoch."""


def random_rows() -> list[dict[str, list[int]]]:
    """Rows of different lengths."""
    dice = random.Random(0)
    ids = [[dice.randrange(2, VOCABULARY) for _ in range(length)] for length in range(5, 17)]
    return [{"input_ids": one, "labels": one} for one in ids]


@contextmanager
def ending(kill_at: str, end: Callable[[], None]) -> Iterator[None]:
    """In the body, a training calls `end` at that moment."""
    name = "_save_optimizer_and_scheduler" if kill_at == "save" else "training_step"
    go_on = getattr(SupervisedTrainer, name)
    calls: list[None] = []

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        if len(calls) == (2 if kill_at == "save" else int(kill_at)):
            end()
        return go_on(self, *args, **kwargs)

    setattr(SupervisedTrainer, name, counted)
    try:
        yield
    finally:
        delattr(SupervisedTrainer, name)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    with ending(sys.argv[3], die):
        fine_tune(Path(sys.argv[1]), random_rows(), Path(sys.argv[2]), SETTINGS)
