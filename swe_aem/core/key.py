"""`TrajectoryKey`: which trajectory of a run."""

from typing import NamedTuple


class TrajectoryKey(NamedTuple):
    """A task, and the number of one of its samples: unique within a run and within a store."""

    task_id: str
    sample: int

    def __str__(self) -> str:
        """`<task id>.<sample>`, as it stands in labels, logs and requests."""
        return f"{self.task_id}.{self.sample}"

    @classmethod
    def parse(cls, text: str) -> "TrajectoryKey":
        """The key that `str` made this text of; raises `ValueError` for any other text."""
        task_id, dot, sample = text.rpartition(".")
        if not (dot and task_id and sample.isdecimal()):
            raise ValueError(f"{text!r} is not the id of a trajectory: expected <task id>.<sample>")
        return cls(task_id, int(sample))
