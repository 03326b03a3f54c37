"""Baselines against their definitions, on groups of any size and in any order."""

import math
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the transformers extra")

from swe_aem.advantage.baselines import BASELINES, group_mean, group_normalised, leave_one_out, max_rl  # noqa: E402
from swe_aem.advantage.inputs import AdvantageInputs  # noqa: E402

pytestmark = pytest.mark.torch

Row = tuple[float, int, bool]
ROWS = st.lists(st.tuples(st.floats(-2, 2), st.sampled_from([4, -1, 9]), st.booleans()), max_size=20)


def inputs_of(rows: list[Row]) -> AdvantageInputs:
    def nothing() -> Any:
        raise AssertionError("a baseline needs no policy")

    return AdvantageInputs(
        reward=torch.tensor([row[0] if row[2] else math.nan for row in rows], dtype=torch.float64),
        group=torch.tensor([row[1] for row in rows], dtype=torch.long),
        response_of_token=torch.zeros(len(rows), 1, dtype=torch.long),
        weight=torch.ones(len(rows)),
        scores=nothing,
    )


def _others(rows: list[Row], index: int) -> list[float]:
    return [row[0] for n, row in enumerate(rows) if n != index and row[1] == rows[index][1] and row[2]]


@given(ROWS)
def test_leave_one_out(rows: list[Row]) -> None:
    found = leave_one_out(inputs_of(rows)).tolist()
    for index, (reward, _, counts) in enumerate(rows):
        others = _others(rows, index)
        expected = reward - statistics.fmean(others) if counts and others else 0.0
        assert found[index] == pytest.approx(expected, abs=1e-9)


@given(ROWS)
def test_relative_to_the_group(rows: list[Row]) -> None:
    centred, scaled, likely = (one(inputs_of(rows)).tolist() for one in (group_mean, group_normalised, max_rl))
    for index, (reward, _, counts) in enumerate(rows):
        group = [*_others(rows, index), reward]
        mean = statistics.fmean(group)
        expected = reward - mean if counts else 0.0
        assert centred[index] == pytest.approx(expected, abs=1e-9)
        deviation = statistics.stdev(group) if len(group) > 1 else 0.0
        assert scaled[index] == pytest.approx(expected / (deviation + 1e-4), abs=1e-6)
        if mean > 1e-3:
            assert likely[index] == pytest.approx(expected / mean, abs=1e-6)


def test_an_infrastructure_failure_moves_no_baseline() -> None:
    for name, one in BASELINES.items():
        with_fault, without = (
            one(inputs_of(rows)).tolist()
            for rows in ([(1.0, 0, True), (0.0, 0, True), (9.0, 0, False)], [(1.0, 0, True), (0.0, 0, True)])
        )
        assert with_fault == [*without, 0.0], name


def test_groups_without_a_success_teach_max_rl_nothing() -> None:
    assert max_rl(inputs_of([(0.0, 0, True), (0.0, 0, True), (-1.0, 1, True), (0.0, 1, True)])).tolist() == [0.0] * 4


def test_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        leave_one_out(inputs_of([(math.inf, 0, True)]))


def test_a_response_without_a_reward_of_its_own_has_its_trajectorys_advantage() -> None:
    """Those of a branch have numbers beyond the rewards; another trajectory with one reward may have more responses."""
    nan = math.nan
    inputs = AdvantageInputs(
        reward=torch.tensor([1.0, 0.0, 0.5]),
        group=torch.zeros(3, dtype=torch.long),
        response_of_token=torch.tensor([[0, 1, 2, -1], [0, 1, -1, -1], [0, 1, 2, 3]]),
        weight=torch.ones(3),
        scores=lambda: (torch.zeros(3, 4), torch.zeros(3, 4)),
        response_rewards=torch.tensor([[0.5, 0.5], [0.0, 0.0], [nan, nan]]),
    )
    assert leave_one_out(inputs).tolist() == [[0.75, 0.25, 0.75, 0.75], [-0.75, -0.25, -0.75, -0.75], [0.0] * 4]
