"""`seal_trajectory`: a terminal trajectory as the line of a store.

The line is made where the trajectory is, in another process or on another host too; `StoreWriter.append_line` writes it
as it is.
"""

import json
import re
from typing import NamedTuple

from swe_aem.core import Outcome, Trajectory, TrajectoryKey
from swe_aem.store.segments import seal, sound
from swe_aem.store.surrogates import unescape
from swe_aem.store.trajectory_row import to_row
from swe_aem.store.upgrade import FORMAT

_HEAD = re.compile(
    rb'\{"format": (\d+), "task_id": ("(?:[^"\\]|\\.)*"), "sample": (\d+), "attempt": \d+, "outcome": "(\w+)"'
)


class Head(NamedTuple):
    """What the first members of a line say."""

    format: int
    key: TrajectoryKey
    outcome: Outcome


def seal_trajectory(trajectory: Trajectory) -> bytes:
    """The line of a terminal trajectory, checksum and newline included.

    Raises `ValueError` for a trajectory without outcome or a float that is not finite: each is a bug of the caller.
    """
    if trajectory.outcome is None:
        raise ValueError(f"{trajectory.id} has no outcome yet")
    return seal(json.dumps(to_row(trajectory), allow_nan=False).encode("ascii"))


def read_head(line: bytes) -> Head | None:
    """Format, key and outcome of a line, read without the rest of it; None if it is not a trajectory's."""
    match = _HEAD.match(line)
    if match is None:
        return None
    key = TrajectoryKey(unescape(json.loads(match[2])), int(match[3]))
    return Head(int(match[1]), key, Outcome(match[4].decode()))


def check_line(line: bytes) -> Head:
    """The head of a line that a store may take as it is; raises `ValueError` for any other."""
    head = read_head(line)
    if head is None or line.find(b"\n") != len(line) - 1 or not sound(line):
        raise ValueError("not a sealed line of a trajectory, or damaged on its way: its checksum does not fit")
    if head.format != FORMAT:
        raise ValueError(f"a line of format {head.format}, and this store is of format {FORMAT}")
    return head
