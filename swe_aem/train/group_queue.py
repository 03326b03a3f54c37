"""`GroupQueue`: when a group may begin, and which groups a step trains on. Events drive it; it has no clock and does no
I/O.

    queue = GroupQueue(QueueRules(groups_per_step=8, max_staleness=4, steps=100))
    while queue.may_begin():               # whenever a place is free
        queue.begin(number)                # its place in the order of the caller's choice
    queue.complete(number, "informative")  # all of its trajectories have ended
    taken = queue.take()                   # the next step's groups, or None: the step waits
    queue.trained()                        # the policy samples with the weights after that step

The version of the weights is the number of steps trained. A group's age, when step n takes it, is n - 1 minus the
version at which it began.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from swe_aem.core.base import Frozen

Worth = Literal["informative", "zero_variance", "broken"]
"""What a complete group teaches: its rewards differ; they are all the same; its task cannot be judged."""
Stale = Literal["wait", "drop"]

_Count = Annotated[int, Field(ge=1)]
_FILLS = ("zero_variance", "broken")
"""What fills up a step without enough informative groups, in this order."""


class QueueRules(Frozen):
    """The settings of a training run that a queue follows, under the same names."""

    groups_per_step: _Count
    """Groups that a step trains on."""
    oversampled_groups: _Count | None = None
    """Groups after which a step fills up with those that are not informative; groups_per_step if not given."""
    max_staleness: Annotated[int, Field(ge=0)] = 0
    """Largest age of a group that is trained on."""
    stale: Stale = "wait"
    """wait: no group ever gets too old, for steps wait in time. drop: groups that got too old are dropped."""
    steps: _Count
    """Steps of the run: nothing begins that none of them could consume."""

    @property
    def consumed_per_step(self) -> int:
        """Groups of which a step trains on groups_per_step, if they are not informative."""
        return self.oversampled_groups or self.groups_per_step

    @property
    def most_begun(self) -> int:
        """Groups that are begun and not trained at once, at most; with zero-variance groups that wait to be rejected
        there may be more."""
        per_step = self.groups_per_step if self.max_staleness else self.consumed_per_step
        return per_step * (self.max_staleness + 1)


class Taken(Frozen):
    """The groups that leave the queue with a step, by number."""

    trained: tuple[int, ...]
    """groups_per_step groups, in the order in which they began."""
    rejected: tuple[int, ...] = ()
    """Complete groups that are not trained on, for others teach more."""
    dropped: tuple[int, ...] = ()
    """Groups that became too old."""


@dataclass
class _Group:
    number: int
    version: int
    """Version of the weights when it began."""
    worth: Worth | None = None
    """None while it runs."""


class GroupQueue:
    """The groups that have begun and that no step has consumed.

    With `max_staleness` 0 a step takes the next `consumed_per_step` groups, once all are complete. Above 0 it takes the
    first complete informative ones, oldest first. Zero-variance groups make room for others at once, within
    `consumed_per_step` * (`max_staleness` + 1); where `consumed_per_step` groups are complete and too few are
    informative, they fill the step. Of those left over a step rejects as many as it would at 0. Without oversampling no
    group is rejected, so each counts as informative.
    """

    def __init__(self, rules: QueueRules, *, trained: int = 0, consumed: int | None = None) -> None:
        """`trained` steps are behind, which trained on or rejected `consumed` groups; as many as they may if not
        given."""
        self._rules = rules
        self._oversamples = rules.consumed_per_step > rules.groups_per_step
        self._version = trained
        most = rules.consumed_per_step * (trained + rules.max_staleness)
        self._consumed = min(rules.consumed_per_step * trained if consumed is None else consumed, most)
        """Groups that steps trained on or rejected; no more than leave the next step what it may consume."""
        self._groups: dict[int, _Group] = {}
        self._dropped: list[int] = []
        self._training = 0
        """Groups of the step that is being trained, as many as its places count."""

    @property
    def version(self) -> int:
        """Steps trained."""
        return self._version

    @property
    def running(self) -> int:
        """Groups that have begun and are not complete."""
        return sum(group.worth is None for group in self._groups.values())

    @property
    def complete_groups(self) -> int:
        """Complete groups that no step has consumed."""
        return len(self._groups) - self.running

    @property
    def held_back(self) -> bool:
        """Does the next step wait for older groups although it has enough of others?"""
        chosen = self._oldest_informative()
        return len(chosen) == self._rules.groups_per_step and not self._may_leave_the_rest(chosen)

    def may_begin(self, *, about_to: int = 0) -> bool:
        """Is there room for another group, beside those that have begun and so many that are about to? At most
        `groups_per_step` * (`max_staleness` + 1) are begun and not trained, so that each of them can still be trained
        in time; zero-variance groups are not counted here, but together with them there are at most
        `consumed_per_step` * (`max_staleness` + 1). And since the run began at most `consumed_per_step` for each step
        that is trained or among the next `max_staleness` + 1: what a step costs does not depend on the staleness."""
        fresh = self._fresh()
        ahead, begun = self._rules.max_staleness + 1, len(fresh) + about_to
        counted = sum(not self._is_rejectable(group) for group in fresh) + about_to + self._training
        return (
            counted < self._rules.most_begun
            and begun + self._training < self._rules.consumed_per_step * ahead
            and begun + self._consumed < self._rules.consumed_per_step * (self._version + ahead)
            and not self._is_exhausted_by(begun)
        )

    @property
    def exhausted(self) -> bool:
        """Have all groups begun that the steps which are left could consume?"""
        return self._is_exhausted_by(len(self._fresh()))

    def _is_exhausted_by(self, begun: int) -> bool:
        steps_left = self._rules.steps - self._version
        return begun + self._training >= self._rules.consumed_per_step * steps_left

    def begin(self, number: int, version: int | None = None) -> None:
        """The group begins; `version` is that of its oldest token where a killed process had begun it."""
        began = self._version if version is None else min(version, self._version)
        self._groups[number] = _Group(number, began)

    def complete(self, number: int, worth: Worth) -> None:
        """All of the group's trajectories have ended."""
        self._groups[number].worth = worth
        self._drop()

    def take(self) -> Taken | None:
        """The groups of the next step, which leave the queue; None while it has to wait. `trained` must follow before
        the step after it."""
        if self._training:
            raise RuntimeError(f"step {self._version + 1} has its groups: call trained() before the next one's")
        taken = self._whole_batch() if self._rules.max_staleness == 0 else self._first_complete()
        if taken is not None:
            for number in (*taken.trained, *taken.rejected):
                del self._groups[number]
            self._consumed += len(taken.trained) + len(taken.rejected)
            self._dropped.clear()
            self._training = self._places_per_step
        return taken

    def trained(self) -> None:
        """The step that took its groups last is trained, and what begins now begins with newer weights."""
        self._version += 1
        self._training = 0
        self._drop()

    @property
    def _places_per_step(self) -> int:
        on_policy = self._rules.max_staleness == 0
        return self._rules.consumed_per_step if on_policy else self._rules.groups_per_step

    def _whole_batch(self) -> Taken | None:
        batch = sorted(self._groups.values(), key=lambda group: group.number)[: self._rules.consumed_per_step]
        if len(batch) < self._rules.consumed_per_step or any(group.worth is None for group in batch):
            return None
        preferred = sorted(batch, key=lambda group: (_rank(group), group.number))
        count = self._rules.groups_per_step
        return self._taken(preferred[:count], preferred[count:])

    def _first_complete(self) -> Taken | None:
        chosen = self._oldest_informative()
        others = sorted(filter(self._is_rejectable, self._groups.values()), key=lambda one: (_rank(one), one.number))
        if not self._may_leave_the_rest(chosen):
            return None
        if (lacking := self._rules.groups_per_step - len(chosen)) > 0:
            if len(chosen) + len(others) < self._rules.consumed_per_step:
                return None
            chosen, others = [*chosen, *others[:lacking]], others[lacking:]
        return self._taken(chosen, self._rejected(others))

    def _rejected(self, others: Collection[_Group]) -> list[_Group]:
        """Those of the others that leave with the next step: as many as it may reject, oldest first, and those that the
        step after it could not train on. What is left keeps its place, so that a step costs `consumed_per_step` groups
        and not as many as are complete when it begins."""
        spare = self._rules.consumed_per_step - self._rules.groups_per_step
        oldest_first = sorted(others, key=_age_order)
        too_old = (one for one in oldest_first[spare:] if self._version + 1 - one.version > self._rules.max_staleness)
        return [*oldest_first[:spare], *too_old]

    def _taken(self, trained: Collection[_Group], rejected: Collection[_Group]) -> Taken:
        return Taken(trained=_numbers(trained), rejected=_numbers(rejected), dropped=tuple(self._dropped))

    def _oldest_informative(self) -> list[_Group]:
        """What a step would like to take: at most as many groups as it trains on."""
        found = [group for group in self._groups.values() if group.worth and not self._is_rejectable(group)]
        return sorted(found, key=_age_order)[: self._rules.groups_per_step]

    def _may_leave_the_rest(self, chosen: Collection[_Group]) -> bool:
        """If the next step takes these groups, can all that may be worth it still be trained before they are too old?
        The steps that can train those of a version or older have that many places at most."""
        if self._rules.stale == "drop":
            return True
        taken = {group.number for group in chosen}
        rest = [one for one in self._groups.values() if one.number not in taken and not self._is_rejectable(one)]
        rest.sort(key=_age_order)
        last_step = self._rules.max_staleness + 1
        return all(
            place <= self._rules.groups_per_step * (group.version + last_step - (self._version + 1))
            for place, group in enumerate(rest, start=1)
        )

    def _fresh(self) -> list[_Group]:
        return [group for group in self._groups.values() if not self._is_lost(group)]

    def _is_rejectable(self, group: _Group) -> bool:
        return group.worth in _FILLS and self._oversamples

    def _is_lost(self, group: _Group) -> bool:
        """Will the group be dropped, even if the next step takes it?"""
        return self._rules.stale == "drop" and self._version - group.version > self._rules.max_staleness

    def _drop(self) -> None:
        for group in list(self._lost_ones()):
            self._dropped.append(group.number)
            del self._groups[group.number]

    def _lost_ones(self) -> Iterator[_Group]:
        return (group for group in self._groups.values() if group.worth is not None and self._is_lost(group))


def _rank(group: _Group) -> int:
    return 1 + _FILLS.index(group.worth) if group.worth in _FILLS else 0


def _age_order(group: _Group) -> tuple[int, int]:
    return group.version, group.number


def _numbers(groups: Collection[_Group]) -> tuple[int, ...]:
    return tuple(sorted(group.number for group in groups))
