"""Rows dealt by length: every row once, equally many for each process, and micro-steps that cost all the same."""

import math
import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swe_aem.train.dealing import Dealing, MicroStep, RowCost, busy_share, row_cost
from swe_aem.train.planning.shapes import KNOWN

QWEN3_32B = KNOWN["Qwen3-32B"].model_dump()


def rows_of(micro_steps: Sequence[MicroStep], process: int) -> list[int]:
    return [row for micro_step in micro_steps for row in micro_step[process]]


def of_agents(count: int, seed: int = 0) -> list[int]:
    """Lengths of a step's rows in tokens: log-normal, median 12,000, cut at 32,768."""
    dice = random.Random(seed)
    return [min(32768, round(dice.lognormvariate(math.log(12000), 0.6))) for _ in range(count)]


@st.composite
def dealt(draw: st.DrawFn) -> tuple[Dealing, list[int], int]:
    processes, size, minibatches = (draw(st.integers(1, 4)) for _ in range(3))
    count = processes * size * minibatches * draw(st.integers(1, 4))
    lengths = draw(st.lists(st.integers(1, 40000), min_size=count, max_size=count))
    return Dealing(num_minibatches=minibatches, micro_batch_size=size, seed=draw(st.integers(0, 9))), lengths, processes


@given(dealt(), st.integers(1, 5))
def test_every_row_is_dealt_once_and_all_processes_have_equally_many(
    given: tuple[Dealing, list[int], int], step: int
) -> None:
    dealing, lengths, processes = given
    micro_steps = dealing.micro_steps(lengths, processes, step)
    assert sorted(row for process in range(processes) for row in rows_of(micro_steps, process)) == list(
        range(len(lengths))
    )
    assert {len(rows) for one in micro_steps for rows in one} == {dealing.micro_batch_size}
    assert micro_steps == dealing.micro_steps(lengths, processes, step)
    if processes == 1:
        assert rows_of(micro_steps, 0) == list(range(len(lengths)))


@given(dealt())
def test_a_micro_step_has_neighbours_in_length(given: tuple[Dealing, list[int], int]) -> None:
    """Within a minibatch no row of a later micro-step is longer than one of an earlier."""
    dealing, lengths, processes = given
    if processes == 1:
        return
    micro_steps = dealing.micro_steps(lengths, processes, 1)
    each = len(micro_steps) // dealing.num_minibatches
    for start in range(0, len(micro_steps), each):
        ranges = [[lengths[row] for rows in one for row in rows] for one in micro_steps[start : start + each]]
        assert all(min(one) >= max(later) for one, later in pairwise(ranges))


def test_minibatches_have_rows_of_all_lengths_and_differ_from_step_to_step() -> None:
    lengths = of_agents(128)
    dealing = Dealing(num_minibatches=4)
    steps = [dealing.micro_steps(lengths, 4, number) for number in (1, 2)]
    assert steps[0] != steps[1]
    means = [
        sum(lengths[row] for one in steps[0][first : first + 8] for rows in one for row in rows) / 32
        for first in range(0, 32, 8)
    ]
    assert max(means) < 1.2 * min(means)


def test_processes_do_the_same_work_in_all() -> None:
    """Plain data parallelism meets once per update."""
    lengths, cost = of_agents(128), row_cost(QWEN3_32B)
    micro_steps = Dealing(cost=cost).micro_steps(lengths, 8, 1)
    totals = [sum(cost(lengths[row]) for row in rows_of(micro_steps, process)) for process in range(8)]
    assert max(totals) < 1.01 * min(totals)


@pytest.mark.parametrize("processes", [2, 8, 32])
def test_dealt_rows_keep_processes_busy(processes: int) -> None:
    lengths, cost = of_agents(16 * processes), row_cost(QWEN3_32B)
    in_order = [tuple((16 * process + number,) for process in range(processes)) for number in range(16)]
    by_length = Dealing(cost=cost).micro_steps(lengths, processes, 1)
    assert busy_share(by_length, lengths, cost) > 0.93
    assert busy_share(in_order, lengths, cost) < 0.8


def test_attention_of_a_32b_model_is_half_of_the_rest_at_32768_tokens() -> None:
    cost = row_cost(QWEN3_32B)
    assert cost(32768) / 32768 == pytest.approx(1.54, abs=0.01)
    assert cost(1) == pytest.approx(1, abs=1e-4)


def test_a_mixture_costs_what_its_chosen_experts_do() -> None:
    values = {
        "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4,
        "head_dim": 128, "intermediate_size": 6144, "moe_intermediate_size": 768, "num_experts_per_tok": 8,
        "vocab_size": 151936,
    }  # fmt: skip
    cost = row_cost(values)
    assert cost.even_tokens == pytest.approx(
        (48 * (2048 * 2 * (4096 + 512) + 3 * 2048 * 6144) + 2048 * 151936) / 196608
    )
    sliding = row_cost({**values, "layer_types": ["sliding_attention"] * 36 + ["full_attention"] * 12})
    assert sliding.even_tokens == pytest.approx(4 * (cost.even_tokens or 0))


@pytest.mark.parametrize("values", [{}, {"hidden_size": None}, {**QWEN3_32B, "layer_types": ["linear_attention"]}])
def test_a_model_that_does_not_tell_costs_its_tokens(values: dict[str, object]) -> None:
    assert row_cost(values) == RowCost()
    assert RowCost()(7) == 7
