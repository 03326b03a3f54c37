"""Which process trains which row of a step, and in which micro-step. Importable without torch.

    micro_steps = Dealing(cost=row_cost(config_json)).micro_steps(lengths, processes=8, step=1)
    micro_steps[0][3]                         # the rows that process 3 has in the first micro-step

Processes wait for each other: under FSDP2 in every layer of every micro-step, under plain data parallelism once per
update. A micro-step so takes as long as its longest row, and while one process trains that, the others wait. Rows are
therefore dealt by length: those of one micro-step are of nearly the same length on all processes.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from swe_aem.core.base import Frozen

MicroStep = tuple[tuple[int, ...], ...]
"""The numbers of the rows that each process has in one micro-step."""


class RowCost(Frozen):
    """The work of training a row, in tokens of a row that is too short for attention to count."""

    even_tokens: float | None = None
    """Length at which attention takes as much as all matrices; None: attention is not counted."""

    def __call__(self, tokens: int) -> float:
        """The work of a row of that many tokens."""
        return float(tokens) if self.even_tokens is None else tokens + tokens**2 / self.even_tokens


def row_cost(values: Mapping[str, Any]) -> RowCost:
    """The cost of rows for a model whose config.json has these values; without attention where they do not tell.

    A token takes two FLOPs per weight of the matrices that it passes through, which of a mixture are those of some
    experts. Causal attention over T tokens takes 2 T^2 per layer that attends to all of them and width of its queries.
    """
    values = {**values, **(values.get("text_config") or {})}
    try:
        layers, hidden, heads = (int(values[name]) for name in _SIZES)
        head = int(values.get("head_dim") or hidden // heads)
        keys = int(values.get("num_key_value_heads") or heads) * head
        mlp = 3 * hidden * _mlp_width(values)
        kinds = values.get("layer_types") or ["full_attention"] * layers
        matrices = layers * (hidden * 2 * (heads * head + keys) + mlp) + hidden * int(values["vocab_size"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return RowCost()
    attending = sum(kind == "full_attention" for kind in kinds)
    return RowCost(even_tokens=matrices / (attending * heads * head) if attending else None)


_SIZES = ("num_hidden_layers", "hidden_size", "num_attention_heads")


def _mlp_width(values: Mapping[str, Any]) -> int:
    """Width of the MLP that a token passes through: the experts that are chosen for it, and the shared one."""
    chosen, width = values.get("num_experts_per_tok"), values.get("moe_intermediate_size")
    if chosen and width:
        return int(chosen) * int(width) + int(values.get("shared_expert_intermediate_size") or 0)
    return int(values["intermediate_size"]) * int(chosen or 1)


class Dealing(Frozen):
    """How the rows of a step are dealt."""

    cost: RowCost = RowCost()
    num_minibatches: int = 1
    """Updates of a step."""
    micro_batch_size: int = 1
    """Rows that a process has in a micro-step."""
    token_budget: int | None = None
    """Tokens that a process has in a micro-step at most, which then has as many rows as fit; a longer row is alone.
    None: `micro_batch_size` decides."""
    seed: int = 0

    def micro_steps(self, lengths: Sequence[int], processes: int, step: int) -> list[MicroStep]:
        """The micro-steps of step `step`, minibatch after minibatch, for rows of these lengths in tokens. One process
        has its rows in their order, unless there is a token budget. Several have equally many rows of a micro-step, and
        of nearly the same cost.

        All minibatches have rows of all lengths; which of those of a length depends on seed and step. A minibatch
        begins with its longest rows, so that a step that does not fit into memory fails at once. The number of rows
        must be a multiple of processes times micro-batch size times minibatches.
        """
        if processes == 1 and self.token_budget is None:
            rows, size = range(len(lengths)), self.micro_batch_size
            return [(tuple(rows[first : first + size]),) for first in range(0, len(rows), size)]
        longest_first = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
        return [
            micro_step
            for rows in self._minibatches(longest_first, processes, step)
            for micro_step in self._spread(rows, lengths, processes)
        ]

    def _minibatches(self, rows: Sequence[int], processes: int, step: int) -> list[list[int]]:
        """The rows of each minibatch in the order given. Of each run of rows with neighbouring lengths every minibatch
        gets as many, at random."""
        dice = random.Random(f"{self.seed} {step}")
        found: list[list[int]] = [[] for _ in range(self.num_minibatches)]
        for first in range(0, len(rows), processes * self.num_minibatches):
            for place, number in enumerate(dice.sample(range(self.num_minibatches), self.num_minibatches)):
                start = first + place * processes
                found[number] += rows[start : start + processes]
        return found

    def _spread(self, rows: Sequence[int], lengths: Sequence[int], processes: int) -> Iterator[MicroStep]:
        """The micro-steps of a minibatch, whose rows are given longest first. Each row goes to the process that has had
        least: in its micro-step, or else in all before."""
        total, first = [0.0] * processes, 0
        while first < len(rows):
            mine: list[list[int]] = [[] for _ in range(processes)]
            spent = [0.0] * processes
            size = self._size([lengths[row] for row in rows[first::processes]])
            for start in range(first, first + processes * size, processes):
                idlest = sorted(range(processes), key=lambda one: (spent[one], total[one], one))
                for process, row in zip(idlest, rows[start : start + processes], strict=True):
                    mine[process].append(row)
                    spent[process] += self.cost(lengths[row])
            total = [before + now for before, now in zip(total, spent, strict=True)]
            first += processes * size
            yield tuple(map(tuple, mine))

    def _size(self, longest: Sequence[int]) -> int:
        """Rows that each process has in the next micro-step. `longest` are the lengths of the longest row of all
        processes in each round that is left, in which each gets one."""
        if self.token_budget is None:
            return self.micro_batch_size
        fitting = sum(tokens <= self.token_budget for tokens in accumulate(longest))
        return max(1, fitting)


def busy_share(micro_steps: Sequence[MicroStep], lengths: Sequence[int], cost: RowCost) -> float:
    """Share of the processes' time that is work, 0..1, where each micro-step takes as long as its slowest process."""
    spent = [[sum(cost(lengths[row]) for row in rows) for rows in micro_step] for micro_step in micro_steps]
    processes = len(micro_steps[0])
    return sum(map(sum, spent)) / (processes * sum(map(max, spent)))
