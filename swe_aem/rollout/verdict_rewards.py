"""What a reward needs: numbers that tests write, or more of a trajectory than its verdict."""

from collections.abc import Iterable, Mapping
from typing import Any

from swe_aem.core import TaskRecord
from swe_aem.core.explain import shown
from swe_aem.errors import UserError
from swe_aem.grading import results_from
from swe_aem.reward import REWARDS, Rewards, terms_of

_BY_VERDICT = ("resolved", "fraction", "graded")
"""Built-in rewards that read nothing of a trajectory but its verdict."""


def require_numbers(reward: str | Mapping[str, Any], records: Iterable[TaskRecord]) -> None:
    """Raise `UserError` if the reward is the number that tests wrote, and a task's tests write none."""
    if not is_graded(reward):
        return
    without = [record.task.id for record in records if results_from(record.key.eval_type) != "reward file"]
    if without:
        raise UserError(
            f"reward graded needs tasks whose tests write a number, and those of {without[0]} write none, as those of "
            f"{len(without)} tasks in all: use fraction, which pays the share of tests that pass"
        )


def is_graded(reward: str | Mapping[str, Any]) -> bool:
    """Is it, or a term of it, the number that tests wrote?"""
    return any(_pays_number(term.setting) for term in terms_of(reward))


def verdict_rewards(reward: str | Mapping[str, Any], records: Iterable[TaskRecord]) -> Rewards:
    """The rewards of verdicts on patches that come without a trajectory. Raises `UserError` for a reward that looks at
    more than the verdict, and as `require_numbers` does."""
    if not by_verdict_alone(reward):
        raise UserError(
            f"a patch has no responses that a reward could look at, and its verdict does not tell {shown(reward)}: use "
            f"{', '.join(_BY_VERDICT)}"
        )
    require_numbers(reward, records)
    return Rewards(reward)


def by_verdict_alone(reward: str | Mapping[str, Any]) -> bool:
    """Can the reward be told from a verdict, where there is no trajectory beside it?"""
    return all(REWARDS.name_of(term.setting) in _BY_VERDICT for term in terms_of(reward))


def _pays_number(setting: str | Mapping[str, Any]) -> bool:
    return REWARDS.name_of(setting) == "graded" or (isinstance(setting, Mapping) and setting.get("of") == "graded")
