"""Held-out rates of an evaluation's store."""

from pathlib import Path

import pytest

from swe_aem.core import Outcome
from swe_aem.errors import UserError
from swe_aem.store import Store
from swe_aem.testing.builders import make_trajectory
from swe_aem.train.heldout import judge

PARTS = {"a": {"part": "old"}, "b": {"part": "new"}, "c": {"part": "never asked"}}
FAULT = {"outcome": Outcome.INFRASTRUCTURE, "reward": None, "verdict": None}


def test_a_part_without_a_verdict_is_left_out(tmp_path: Path) -> None:
    with Store(tmp_path).writer() as writer:
        writer.append(make_trajectory("a", 0))
        writer.append(make_trajectory("b", 0, **FAULT))
    found = judge(tmp_path, None, PARTS)
    assert (found.tasks, found.pass_at_1, found.faults) == (1, 1.0, 1)
    assert {part: rates.tasks for part, rates in found.parts.items()} == {"old": 1}


def test_an_evaluation_without_any_verdict_says_so(tmp_path: Path) -> None:
    with Store(tmp_path).writer() as writer:
        writer.append(make_trajectory("a", 0, **FAULT))
    with pytest.raises(UserError, match="no trajectory of the evaluation has a verdict"):
        judge(tmp_path, None, PARTS)
