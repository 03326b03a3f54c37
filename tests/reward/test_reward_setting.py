"""The setting `reward`: its forms, what is refused, and that reading it imports no code of a user's."""

from pathlib import Path
from typing import Any

import pytest

from swe_aem.core.settings import check, load
from swe_aem.errors import UserError
from swe_aem.reward import REWARDS, Rewards
from swe_aem.reward.config import BUILT_IN
from swe_aem.rollout import RolloutConfig
from swe_aem.testing.builders import make_trajectory

OWN = """
from pydantic import BaseModel

def half(trajectory, verdict):
    return 0.5

class Scaled(BaseModel):
    by: float = 2.0

    def __call__(self, trajectory, verdict):
        return self.by * verdict.resolved

CONSTANT = 3
"""


def reward(value: Any) -> Any:
    return RolloutConfig.model_validate({"reward": value}).reward


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("fraction", "fraction"),
        ({"type": "fraction"}, "fraction"),
        ({"type": "turn_cost", "per_turn": 0.01}, "turn_cost"),
        ({"type": "turn_cost", "per_turn": 0.02}, {"type": "turn_cost", "per_turn": 0.02}),
        ("nowhere.py:fn", "nowhere.py:fn"),
        ({"type": "no_such_package:Fn", "a": 1}, {"type": "no_such_package:Fn", "a": 1}),
        ({"tests": {"type": "fraction", "weight": 1}, "b": "format"}, {"tests": "fraction", "b": "format"}),
        (
            {"a": {"type": "format", "weight": 0.5, "per": "trajectory"}},
            {"a": {"type": "format", "weight": 0.5}},
        ),
    ],
)
def test_two_settings_that_mean_the_same_are_stored_alike(given: Any, stored: Any) -> None:
    assert reward(given) == stored
    assert reward(stored) == stored


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("fractoin", "reward: no reward 'fractoin' (did you mean fraction?)"),
        ("my_reward.py", "reward: reward my_reward.py: say which object of the file, as in my_reward.py:NAME"),
        (1.0, "reward: give a name (resolved, fraction"),
        ({}, "reward: a reward needs a name, or named terms"),
        (
            {"type": "turn_cost", "per_trun": 1},
            "reward turn_cost: per_trun is unknown (did you mean per_turn?)",
        ),
        ({"type": "turn_cost", "most": 1}, "reward: reward turn_cost: most is 1: give a number"),
        ({"type": "fraction", "weight": 2}, "reward: reward fraction takes no settings, but weight are given"),
        ({"a": 1}, "reward: the term a must be the name of a reward or a mapping with its type"),
        ({"a": {"weight": 1}}, "reward: the term a must be the name of a reward"),
        ({"a": {"type": "format", "weight": -1}}, "reward: the weight of a must be a number, 0 or more"),
        ({"a": {"type": "format", "weight": "big"}}, "reward: the weight of a must be a number"),
        ({"a": {"type": "format", "weight": 0}}, "reward: every weight is 0"),
        ({"a b": "format"}, "reward: 'a b' cannot name a term"),
    ],
)
def test_what_is_refused_names_the_setting_and_the_fix(value: Any, said: str) -> None:
    with pytest.raises(UserError) as caught:
        check(RolloutConfig, {"reward": value})
    assert said in str(caught.value)


def test_own_functions_and_classes_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    assert Rewards("own.py:half")(make_trajectory("t", 0)).reward == 0.5
    assert Rewards({"type": "own.py:Scaled", "by": 3})(make_trajectory("t", 0)).reward == 3.0
    with pytest.raises(UserError, match="half takes no settings"):
        Rewards({"type": "own.py:half", "by": 3})
    with pytest.raises(UserError, match=r"reward own\.py:CONSTANT is int, which cannot be called: write a function"):
        Rewards("own.py:CONSTANT")
    with pytest.raises(UserError, match=r"own\.py has no hlaf"):
        Rewards("own.py:hlaf")
    with pytest.raises(UserError, match="typ would name a term; did you mean type"):
        Rewards({"typ": "own.py:half"})
    assert Rewards({"style": "own.py:half", "tests": "resolved"})(make_trajectory("t", 0)).reward == 1.5


def test_a_mapping_on_the_command_line() -> None:
    config = load(RolloutConfig, None, {}, ["reward={tests: fraction, style: {type: format, weight: 0.1}}"])
    assert config.reward == {"tests": "fraction", "style": {"type": "format", "weight": 0.1}}


def test_the_names_of_the_built_in_ones_are_said_once() -> None:
    assert REWARDS.names[: len(BUILT_IN)] == BUILT_IN
    for name in BUILT_IN:
        Rewards(name)
