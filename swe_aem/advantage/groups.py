"""Values by the number of their group: what they add up to, how far they range, and a shuffle. Imports torch alone.

Values are (N,) and group numbers (N,) long, any numbers in any order.
"""

import torch
from torch import Tensor


def totals(values: Tensor, group: Tensor) -> Tensor:
    """(N,) of each value: the sum over its group."""
    numbers, member = torch.unique(group, return_inverse=True)
    return values.new_zeros(numbers.numel()).index_add_(0, member, values)[member]


def extremes(values: Tensor, group: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(G,) lowest and highest of each group in the order of their numbers, and (N,) long: the place of each value's
    group in that order."""
    numbers, member = torch.unique(group, return_inverse=True)
    empty = values.new_zeros(numbers.numel())
    lowest = empty.scatter_reduce(0, member, values, "amin", include_self=False)
    return lowest, empty.scatter_reduce(0, member, values, "amax", include_self=False), member


def shuffled(values: Tensor, group: Tensor, generator: torch.Generator) -> Tensor:
    """The same values, permuted at random within each group."""
    order = torch.randperm(values.numel(), generator=generator).to(values.device)
    dealt = order[torch.argsort(group[order], stable=True)]
    places = torch.argsort(group, stable=True)
    result = torch.empty_like(values)
    result[places] = values[dealt]
    return result


def require_finite(values: Tensor, name: str) -> None:
    """Raise `ValueError` unless all values are finite numbers."""
    if not bool(torch.isfinite(values).all()):
        raise ValueError(f"{name} holds a value that is not finite")
