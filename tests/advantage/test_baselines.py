"""Baselines against their definitions."""

import math
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the transformers extra")

from swe_aem.advantage.baselines import group_relative, leave_one_out  # noqa: E402

pytestmark = pytest.mark.torch

Row = tuple[float, int, bool]
ROWS = st.lists(st.tuples(st.floats(-2, 2), st.sampled_from([4, -1, 9]), st.booleans()), max_size=20)


def _tensors(rows: list[Row]) -> tuple[Any, Any, Any]:
    reward = torch.tensor([row[0] if row[2] else math.nan for row in rows], dtype=torch.float64)
    return (
        reward,
        torch.tensor([row[1] for row in rows], dtype=torch.long),
        torch.tensor([row[2] for row in rows]).bool(),
    )


def _others(rows: list[Row], index: int) -> list[float]:
    return [row[0] for n, row in enumerate(rows) if n != index and row[1] == rows[index][1] and row[2]]


@given(ROWS)
def test_leave_one_out(rows: list[Row]) -> None:
    found = leave_one_out(*_tensors(rows)).tolist()
    for index, (reward, _, counts) in enumerate(rows):
        others = _others(rows, index)
        expected = reward - statistics.fmean(others) if counts and others else 0.0
        assert found[index] == pytest.approx(expected, abs=1e-9)


@given(ROWS)
def test_group_relative(rows: list[Row]) -> None:
    centred = group_relative(*_tensors(rows), scale=False).tolist()
    scaled = group_relative(*_tensors(rows)).tolist()
    for index, (reward, _, counts) in enumerate(rows):
        group = [*_others(rows, index), reward]
        expected = reward - statistics.fmean(group) if counts else 0.0
        assert centred[index] == pytest.approx(expected, abs=1e-9)
        deviation = statistics.stdev(group) if len(group) > 1 else 0.0
        assert scaled[index] == pytest.approx(expected / (deviation + 1e-4), abs=1e-6)


def test_an_infrastructure_failure_moves_no_baseline() -> None:
    reward = torch.tensor([1.0, 0.0, math.nan])
    with_fault = leave_one_out(reward, torch.zeros(3, dtype=torch.long), torch.tensor([True, True, False]))
    assert with_fault.tolist() == [1.0, -1.0, 0.0]


def test_refused() -> None:
    group = torch.zeros(1, dtype=torch.long)
    with pytest.raises(ValueError, match="not finite"):
        leave_one_out(torch.tensor([math.nan]), group, torch.tensor([True]))
    with pytest.raises(ValueError, match="must be the same"):
        group_relative(torch.tensor([1.0, 2.0]), group, torch.tensor([True]))
