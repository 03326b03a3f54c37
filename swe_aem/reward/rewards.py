"""`Rewards`: gives trajectories their rewards, by the outcome table and by the reward functions of a setting."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

from swe_aem.core import OUTCOME_TABLE, Trajectory, Verdict
from swe_aem.core.blocking import in_daemon_thread
from swe_aem.errors import ExtensionFailed
from swe_aem.reward.config import BUILT_IN, REWARDS, Term, terms_of

RewardFunction = Callable[[Trajectory, Verdict], float | Sequence[float]]
"""What a trajectory and its verdict are paid: one number, or one per response. Finite, and not below 0 in sum.

The trajectory has its outcome, and no reward yet. Without a verdict, as for an empty patch, the verdict given is one
that resolves nothing. Both are copies: changing them changes nothing."""

_Paid = tuple[Term, float | list[float]]
"""A term, and what its function pays."""
_NOTHING = Verdict(resolved=False, patch_applied=False, cause="there was nothing to grade")


class Rewards:
    """The rewards of one setting."""

    def __init__(self, setting: str | Mapping[str, Any], *, limit_s: float = 600.0) -> None:
        """Makes the reward functions; a user's may take `limit_s` seconds for a trajectory. Raises `UserError` for a
        name or settings that do not fit, and whatever the user's code raises when it is imported."""
        self._limit_s = limit_s
        self._terms: list[tuple[Term, RewardFunction]] = [
            (term, REWARDS.function(term.setting, "trajectory", "verdict")) for term in terms_of(setting)
        ]
        self._own = any(REWARDS.name_of(term.setting) not in BUILT_IN for term, _ in self._terms)
        self._one_at_a_time = asyncio.Lock()

    def __call__(self, trajectory: Trajectory) -> Trajectory:
        """The terminal trajectory with its reward, by the outcome table: none for an infrastructure failure or a broken
        task, a constant for what no function may pay, and else what the functions say.

        Raises `ExtensionFailed` where a function raises, or gives what is no reward.
        """
        assert trajectory.outcome is not None, "only terminal trajectories have a reward"
        bare = trajectory.model_copy(update={"reward": None, "response_rewards": None, "reward_terms": {}})
        rule = OUTCOME_TABLE[trajectory.outcome]
        if rule.reward != "graded":
            return bare.model_copy(update={"reward": rule.reward})
        paid = [(term, _asked(term, function, bare)) for term, function in self._terms]
        sums = {term.name: math.fsum(value) if isinstance(value, list) else value for term, value in paid}
        reward = math.fsum(term.weight * sums[term.name] for term, _ in paid)
        if not (math.isfinite(reward) and reward >= 0):
            raise ExtensionFailed(_below_0(reward, paid, bare))
        by_response = any(isinstance(value, list) for _, value in paid)
        update = {
            "reward": reward,
            "response_rewards": _by_response(paid, len(bare.responses)) if by_response else None,
            "reward_terms": sums if "" not in sums else {},
        }
        return bare.model_copy(update=update)

    async def give(self, trajectory: Trajectory) -> Trajectory:
        """The same; functions of a user's run in a thread, one call at a time. Raises `ExtensionFailed` also for one
        that does not return."""
        if not self._own:
            return self(trajectory)
        async with self._one_at_a_time:
            try:
                return await asyncio.wait_for(in_daemon_thread(lambda: self(trajectory)), self._limit_s)
            except TimeoutError:
                names = ", ".join(REWARDS.name_of(term.setting) for term, _ in self._terms)
                raise ExtensionFailed(
                    f"reward {names} of {trajectory.id} has not returned within {self._limit_s:g} s: give what it "
                    "waits for a limit of its own"
                ) from None


def _asked(term: Term, function: RewardFunction, trajectory: Trajectory) -> float | list[float]:
    """What one function pays."""
    name = REWARDS.name_of(term.setting)
    given = trajectory.model_copy(deep=True) if name not in BUILT_IN else trajectory
    verdict = given.verdict or _NOTHING.model_copy(deep=True)
    try:
        value: Any = function(given, verdict)
    except (Exception, SystemExit) as error:
        raise ExtensionFailed(f"reward {name} of {trajectory.id} raised {type(error).__name__}: {error}") from error
    return _checked(value, name, trajectory)


def _checked(value: Any, name: str, trajectory: Trajectory) -> float | list[float]:
    """The number, or the numbers; raises `ExtensionFailed` for anything else."""
    where = f"reward {name} of {trajectory.id} is"
    if _is_number(value):
        number = float(value)
        if not math.isfinite(number):
            raise ExtensionFailed(f"{where} {number}: give a finite number")
        return number
    if value is None or isinstance(value, str | bytes | Mapping) or not hasattr(value, "__iter__"):
        hint = ": a reward cannot leave a trajectory out" if value is None else ""
        raise ExtensionFailed(f"{where} {value!r}{hint}; give a number, or a list with one number per response")
    try:
        values: list[Any] = list(value)
    except TypeError:
        raise ExtensionFailed(f"{where} {value!r}: give a number, e.g. by .item()") from None
    wrong = [one for one in values if not _is_number(one) or not math.isfinite(float(one))]
    if wrong:
        raise ExtensionFailed(f"{where} a list with {wrong[0]!r} in it: give finite numbers")
    if len(values) != len(trajectory.responses):
        raise ExtensionFailed(
            f"{where} a list of {len(values)} numbers, and the trajectory has {len(trajectory.responses)} responses: "
            "give one number per response, in their order, or one number for the trajectory"
        )
    return [float(one) for one in values]


def _is_number(value: Any) -> bool:
    """Is it one real number? A tensor or an array of one element is none, since its shape may be a mistake."""
    return isinstance(value, Real)


def _by_response(paid: Sequence[_Paid], responses: int) -> tuple[float, ...] | None:
    """The weighted terms by response; a number for the whole trajectory is paid at its last response. None where
    nothing was sampled."""
    if not responses:
        return None
    total = [0.0] * responses
    for term, value in paid:
        for number, one in enumerate(value if isinstance(value, list) else [0.0] * (responses - 1) + [value]):
            total[number] += term.weight * one
    return tuple(total)


def _below_0(reward: float, paid: Sequence[_Paid], trajectory: Trajectory) -> str:
    names = ", ".join(REWARDS.name_of(term.setting) for term, _ in paid)
    return (
        f"reward {names} of {trajectory.id} is {reward:g}, below 0: 0 is what a cheat and a killed sandbox get, and an "
        "honest trajectory must not be paid less. Pay what is good instead, or add a constant"
    )
