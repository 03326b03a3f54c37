"""`Streams`: the rows of a batch as the trajectories that an advantage estimator is given, and back. Needs torch.

A trajectory is one row of a batch, and each of its branches that is trained on another one. To the estimator they are
one trajectory, whose tokens are those of its own row and, behind these, those of its branches:

    rows             0  own tokens of trajectory 0         trajectories     0  own tokens of 0 | branch a | branch b
                     1  own tokens of trajectory 1                          1  own tokens of 1
                     2  branch a of trajectory 0
                     3  branch b of trajectory 0

So a trajectory has one reward in its group's baseline however many branches it has, and an estimator needs to know
nothing of branches.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class _Place(NamedTuple):
    """Where the columns of a branch's row stand among those of its trajectory."""

    row: int
    trajectory: int
    start: int
    width: int


class Streams:
    """The rows of a batch, those of trajectories first."""

    def __init__(self, trajectory: Tensor, numbers: Tensor) -> None:
        """`trajectory` is (R,) long: the row of each row's trajectory, which is itself for the first B rows. `numbers`
        is (R, T) long: the response of each token, -1 where it is not trained."""
        self._trajectory = trajectory
        self._tokens = numbers.size(1)
        self.trajectories = count_trajectories(trajectory)
        """B."""
        ends = [self._tokens] * self.trajectories
        self._places: list[_Place] = []
        for row in range(self.trajectories, trajectory.numel()):
            trained, owner = (numbers[row] >= 0).nonzero(), int(trajectory[row])
            width = int(trained.max()) + 1 if trained.numel() else 0
            self._places.append(_Place(row, owner, ends[owner], width))
            ends[owner] += width
        self._width = max(ends, default=self._tokens)

    def join(self, values: Tensor, fill: float) -> Tensor:
        """(B, T') of (R, T) values: those of each trajectory, and `fill` behind them."""
        joined = values.new_full((self.trajectories, self._width), fill)
        joined[:, : self._tokens] = values[: self.trajectories]
        for row, owner, start, width in self._places:
            joined[owner, start : start + width] = values[row, :width]
        return joined

    def split(self, values: Tensor) -> Tensor:
        """(R,) of (B,) values, or (R, T) of (B, T'): those of each row; 0 behind the trained tokens of a branch."""
        if values.dim() == 1:
            return values[self._trajectory]
        rows = values.new_zeros((self._trajectory.numel(), self._tokens))
        rows[: self.trajectories] = values[:, : self._tokens]
        for row, owner, start, width in self._places:
            rows[row, :width] = values[owner, start : start + width]
        return rows


def count_trajectories(trajectory: Tensor) -> int:
    """How many rows are those of trajectories, where (R,) long says which row has each row's."""
    return int((trajectory == torch.arange(trajectory.numel(), device=trajectory.device)).sum())
