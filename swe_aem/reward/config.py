"""The setting `reward`: a name, a mapping with a type, or several named terms with weights.

reward: fraction
reward: {type: turn_cost, per_turn: 0.02}
reward:
  tests: fraction
  style: {type: my_reward.py:style, weight: 0.1}
"""

import difflib
import math
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator

from swe_aem.errors import UserError
from swe_aem.extensions import ExtensionPoint

REWARDS: ExtensionPoint[Any] = ExtensionPoint(
    "reward",
    group="swe_aem.rewards",
    builtin={
        "resolved": "swe_aem.reward.builtin:resolved",
        "fraction": "swe_aem.reward.builtin:fraction",
        "graded": "swe_aem.reward.builtin:graded",
        "turn_cost": "swe_aem.reward.builtin:TurnCost",
        "format": "swe_aem.reward.builtin:Format",
    },
)
"""Reward functions by name."""
BUILT_IN = ("resolved", "fraction", "graded", "turn_cost", "format")
"""The names that are built in."""
RewardLike = Callable[..., Any] | Mapping[str, Any] | str
"""A reward as it is handed over in Python: a function, or a setting in which functions may stand for names."""
_LIKENESS = 0.8
"""Share of matching characters from which a term's name is a misspelt `type`."""
_TERM = re.compile(r"[A-Za-z_]\w*")


class Term(NamedTuple):
    """One summand of a reward."""

    name: str
    """Empty where the reward has no named terms."""
    setting: str | dict[str, Any]
    """The reward function: its name, or a mapping of `type` and of its own settings."""
    weight: float


def terms_of(setting: str | Mapping[str, Any]) -> tuple[Term, ...]:
    """The terms of a setting. Raises `UserError` for one that cannot be a reward."""
    if isinstance(setting, str) or REWARDS.key in setting:
        return (Term("", _function(setting), 1.0),)
    if not setting:
        raise UserError(f"a reward needs a name, or named terms; there are {', '.join(REWARDS.names)}")
    terms = tuple(_term(name, value) for name, value in setting.items())
    if not any(term.weight for term in terms):
        raise UserError("every weight is 0: no trajectory would be paid anything")
    return terms


def setting_of(reward: RewardLike) -> Any:
    """The setting of a reward that is handed over in Python: functions and classes may stand in the place of names.

    Raises `UserError` for two functions that no name could tell apart.
    """
    return _named(reward, {})


def _named(reward: Any, seen: dict[str, Any]) -> Any:
    """The same; `seen` are the objects so far by name."""
    if isinstance(reward, Mapping) and REWARDS.key in reward:
        return {**reward, REWARDS.key: _named(reward[REWARDS.key], seen)}
    if isinstance(reward, Mapping):
        return {name: _named(value, seen) for name, value in reward.items()}
    setting = REWARDS.setting_of(reward)
    if not isinstance(reward, str):
        name = REWARDS.name_of(setting)
        value = REWARDS.find(name).value
        if seen.setdefault(name, value) is not value:
            raise UserError(f"two rewards have the name {name}: define them as functions with names of their own")
    return setting


def _term(name: Any, value: Any) -> Term:
    if not isinstance(name, str) or not _TERM.fullmatch(name):
        raise UserError(f"{name!r} cannot name a term: use letters, digits and underscores")
    if difflib.get_close_matches(name, [REWARDS.key], 1, _LIKENESS):
        raise UserError(f"{name} would name a term; did you mean {REWARDS.key}? Otherwise call the term something else")
    if isinstance(value, str):
        return Term(name, _function(value), 1.0)
    if not isinstance(value, Mapping) or REWARDS.key not in value:
        raise UserError(
            f"the term {name} must be the name of a reward or a mapping with its type, e.g. {name}: {{type: fraction, "
            "weight: 0.5}"
        )
    weight = value.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight) or weight < 0:
        raise UserError(
            f"the weight of {name} must be a number, 0 or more: what is to be punished is paid less, since 0 is what a "
            "cheat gets"
        )
    return Term(name, _function({key: one for key, one in value.items() if key != "weight"}), float(weight))


def _function(setting: str | Mapping[str, Any]) -> str | dict[str, Any]:
    """A reward function's setting in its shortest form; the settings of a built-in one are checked."""
    name = REWARDS.name_of(setting)
    REWARDS.check(name)
    given = {} if isinstance(setting, str) else {key: one for key, one in setting.items() if key != REWARDS.key}
    if name in BUILT_IN:
        made = REWARDS.make({REWARDS.key: name, **given})
        given = made.model_dump(mode="json", exclude_defaults=True) if isinstance(made, BaseModel) else {}
    return {REWARDS.key: name, **given} if given else name


def _shortest(setting: Any) -> Any:
    """The setting in the form in which it is stored: two that mean the same are equal."""
    if not isinstance(setting, str | Mapping):
        raise ValueError(f"give a name ({', '.join(REWARDS.names)}, or one of your own), or a mapping of named terms")
    try:
        terms = terms_of(setting)
    except UserError as error:
        raise ValueError(str(error)) from None
    if not terms[0].name:
        return terms[0].setting
    return {term.name: _stored(term) for term in terms}


def _stored(term: Term) -> str | dict[str, Any]:
    if term.weight == 1.0:
        return term.setting
    settings = {REWARDS.key: term.setting} if isinstance(term.setting, str) else term.setting
    return {**settings, "weight": term.weight}


RewardSetting = Annotated[str | dict[str, Any], BeforeValidator(_shortest)]
"""Type of the setting in a model. No code of a user's is imported when it is read."""
