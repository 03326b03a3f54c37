"""Has each checkpoint of a run written twice, for tests: while training waits, and while it continues."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

from swe_aem.train.checkpoint_writer import CheckpointWriter
from swe_aem.train.checkpointed import CheckpointedTrainer

LATEST_S = 300
"""After this the thread writes in any case."""


@contextmanager
def saved_twice(elsewhere: Path) -> Iterator[None]:
    """In the body, runs with `asynchronous_checkpoints` also write each checkpoint to `elsewhere`, while training
    waits. The thread writes nothing before training has continued as far as it can: to the next checkpoint, or the
    end."""
    save, write, wait = CheckpointedTrainer._save_checkpoint, CheckpointWriter._write, CheckpointWriter.wait
    waited_for = Event()

    def twice(self: Any, model: Any, trial: Any) -> None:
        later = self.checkpoint_writer
        self.checkpoint_writer = CheckpointWriter(elsewhere, later._processes)
        save(self, model, trial)
        self.checkpoint_writer = later
        save(self, model, trial)

    def held(self: Any, later: Any) -> None:
        waited_for.wait(LATEST_S)
        write(self, later)

    def waits(self: Any) -> None:
        waited_for.set()
        wait(self)
        waited_for.clear()

    CheckpointedTrainer._save_checkpoint = twice  # type: ignore[method-assign]
    CheckpointWriter._write, CheckpointWriter.wait = held, waits  # type: ignore[method-assign]
    try:
        yield
    finally:
        CheckpointedTrainer._save_checkpoint = save  # type: ignore[method-assign]
        CheckpointWriter._write, CheckpointWriter.wait = write, wait  # type: ignore[method-assign]


def files(directory: Path) -> dict[str, bytes]:
    """Every file of the checkpoints in a directory by its path."""
    found = [one for checkpoint in directory.glob("checkpoint-*") for one in checkpoint.rglob("*") if one.is_file()]
    return {str(one.relative_to(directory)): one.read_bytes() for one in found}
