"""`TrajectoryKey`: which trajectory of a run."""

from typing import NamedTuple


class TrajectoryKey(NamedTuple):
    """A task, and the number of one of its samples: unique within a run and within a store."""

    task_id: str
    sample: int

    def __str__(self) -> str:
        """`<task id>.<sample>`, as it stands in labels, logs and requests."""
        return f"{self.task_id}.{self.sample}"
