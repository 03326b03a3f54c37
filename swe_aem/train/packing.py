"""Rows packed into one forward pass: no padding, and attention within each row only.

    input_ids      a1 a2 a3 b1 b2 c1 c2 c3 c4
    position_ids    0  1  2  0  1  0  1  2  3

transformers takes positions that begin again as the borders of rows where it is given no attention mask. Flash
attention then has a kernel for rows of different lengths; the others get a mask of blocks.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

_NO_LABEL = -100


class Packed(NamedTuple):
    """The tokens of all rows one after the other, (1, N) each."""

    input_ids: Tensor
    position_ids: Tensor
    labels: Tensor
    """The token itself where its log-probability is wanted, else -100: in prompts, and where a row begins."""


def pack(ids: Tensor, mask: Tensor, wanted: int) -> Packed:
    """The rows of (B, T) token ids where the mask is 1, with labels in the last `wanted` columns."""
    there = mask.bool()
    positions = there.long().cumsum(1) - 1
    labels = ids.masked_fill(positions == 0, _NO_LABEL)
    labels[:, : ids.size(1) - wanted] = _NO_LABEL
    return Packed(*(one[there].unsqueeze(0) for one in (ids, positions, labels)))


def unpack(values: Tensor, mask: Tensor) -> Tensor:
    """(B, T) values of the tokens of packed rows; 0 where the mask is 0. `values` is (1, N - 1), from the second token
    on: a model tells of each token at the one before it."""
    stream = torch.cat([values.new_zeros(1), values[0]])
    return values.new_zeros(mask.shape).masked_scatter(mask.bool(), stream)


def micro_steps(numbers: Sequence[int]) -> list[slice]:
    """The rows of each micro-step, from the number of each row's."""
    found, first = [], 0
    for _, rows in groupby(numbers):
        size = len(list(rows))
        found.append(slice(first, first + size))
        first += size
    return found


def rows_of(inputs: dict[str, Any], rows: slice) -> dict[str, Any]:
    """Some rows of a batch of tensors; what is one number for all stays."""
    return {name: value[rows] if isinstance(value, Tensor) and value.dim() else value for name, value in inputs.items()}
