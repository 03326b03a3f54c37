"""Held-out rates of an evaluation's store."""

from pathlib import Path
from typing import Any

import pytest

from swe_aem.core import Outcome
from swe_aem.errors import UserError
from swe_aem.store import Store
from swe_aem.testing.builders import make_trajectory
from swe_aem.train.config import HeldoutConfig, TrainConfig
from swe_aem.train.heldout import heldout_rollout, judge

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


@pytest.mark.parametrize(
    ("heldout", "family"),
    [
        ({}, "mine.py:read"),
        ({"tasks": "mine.json"}, "mine.py:read"),
        ({"tasks": "tasks/micro"}, None),
        ({"tasks": "others.json", "family": "others.py:read"}, "others.py:read"),
    ],
)
def test_a_family_reads_the_set_that_it_was_named_for(heldout: dict[str, Any], family: str | None) -> None:
    rollout = {"tasks": "mine.json", "family": "mine.py:read", "group_size": 2}
    config = TrainConfig.model_validate(
        {"model": "m", "steps": 1, "groups_per_step": 1, "rollout": rollout, "heldout": {"split": None, **heldout}}
    )
    assert heldout_rollout(config, greedy=False).family == family


def test_a_family_without_a_set_reads_nothing() -> None:
    with pytest.raises(ValueError, match=r"heldout\.family is what reads"):
        HeldoutConfig(family="mine.py:read")
