"""`GroupQueue` under random events: its bounds hold, nothing is lost or doubled, and it never stands still."""

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swe_aem.train.group_queue import GroupQueue, QueueRules, Taken, Worth

WORTHS: tuple[Worth, ...] = ("informative", "zero_variance", "broken")


def rules(per_step: int, staleness: int, *, rolled_out: int | None = None, steps: int = 100, **more: str) -> QueueRules:
    values = {"groups_per_step": per_step, "oversampled_groups": rolled_out, "max_staleness": staleness, "steps": steps}
    return QueueRules.model_validate({**values, **more})


def begun(queue: GroupQueue, *numbers: int) -> None:
    for number in numbers:
        assert queue.may_begin()
        queue.begin(number)


def complete(queue: GroupQueue, *numbers: int, worth: Worth = "informative") -> None:
    for number in numbers:
        queue.complete(number, worth)


def test_on_policy_a_step_takes_its_whole_batch() -> None:
    queue = GroupQueue(rules(2, 0, rolled_out=4))
    begun(queue, 0, 1, 2, 3)
    assert not queue.may_begin()
    queue.complete(0, "broken")
    queue.complete(1, "zero_variance")
    queue.complete(2, "informative")
    assert queue.take() is None
    queue.complete(3, "informative")
    assert queue.take() == Taken(trained=(2, 3), rejected=(0, 1))
    assert not queue.may_begin(), "the next step's groups begin with its weights"
    queue.trained()
    begun(queue, 4, 5, 6, 7)


def test_the_first_complete_groups_are_taken_and_the_oldest_of_them_first() -> None:
    queue = GroupQueue(rules(2, 1))
    begun(queue, 0, 1, 2, 3)
    assert not queue.may_begin(), "four places: those that begin now may be trained by step 2 at the latest"
    complete(queue, 3)
    assert queue.take() is None
    complete(queue, 2, 1)
    assert queue.take() == Taken(trained=(1, 2))
    assert not queue.may_begin(), "what is being trained holds its places"
    queue.trained()
    begun(queue, 4, 5)


def test_a_step_waits_for_a_group_that_would_get_too_old() -> None:
    queue = GroupQueue(rules(1, 1))
    begun(queue, 0, 1)
    complete(queue, 1)
    assert queue.take() == Taken(trained=(1,))
    queue.trained()
    begun(queue, 2)
    complete(queue, 2)
    assert queue.take() is None
    assert queue.held_back
    complete(queue, 0)
    assert queue.take() == Taken(trained=(0,))
    assert not queue.held_back


def test_a_step_waits_in_time_where_several_would_get_too_old_together() -> None:
    """Two groups of version 0 would otherwise both be left to step 3, which trains on one."""
    queue = GroupQueue(rules(1, 2))
    begun(queue, 0, 1, 2)
    complete(queue, 2)
    assert queue.take() == Taken(trained=(2,))
    queue.trained()
    begun(queue, 3)
    complete(queue, 3)
    assert queue.take() is None


def test_dropping_does_not_wait() -> None:
    queue = GroupQueue(rules(1, 1, stale="drop"))
    begun(queue, 0, 1)
    complete(queue, 1)
    assert queue.take() == Taken(trained=(1,))
    queue.trained()
    begun(queue, 2)
    complete(queue, 2)
    assert queue.take() == Taken(trained=(2,))
    queue.trained()
    begun(queue, 3, 4)  # the old one holds no place, for it cannot be trained on
    complete(queue, 0, 3)
    assert queue.take() == Taken(trained=(3,), dropped=(0,))


def test_zero_variance_groups_make_room_and_fill_up_in_the_end() -> None:
    queue = GroupQueue(rules(1, 1, rolled_out=3))
    begun(queue, 0, 1)
    assert not queue.may_begin()
    complete(queue, 0, worth="broken")
    complete(queue, 1, worth="zero_variance")
    assert queue.take() is None, "there may be an informative one among three"
    begun(queue, 2, 3)
    complete(queue, 2, worth="zero_variance")
    assert queue.take() == Taken(trained=(1,), rejected=(0, 2))
    queue.trained()
    complete(queue, 3)
    assert queue.take() == Taken(trained=(3,))


def test_a_step_rejects_no_more_than_it_would_on_policy() -> None:
    queue = GroupQueue(rules(1, 1, rolled_out=2))
    begun(queue, 0, 1)
    complete(queue, 0, 1, worth="zero_variance")
    begun(queue, 2, 3)
    complete(queue, 2)
    assert queue.take() == Taken(trained=(2,), rejected=(0,))
    assert not queue.may_begin(), "1 keeps its place: it is what the next step rejects"
    queue.trained()
    complete(queue, 3)
    assert queue.take() == Taken(trained=(3,), rejected=(1,))


def test_a_zero_variance_group_is_rejected_before_it_is_too_old_to_fill_a_step() -> None:
    queue = GroupQueue(rules(1, 1, rolled_out=3))
    begun(queue, 0, 1)
    complete(queue, 0, 1, worth="zero_variance")
    begun(queue, 2, 3)
    complete(queue, 2, 3, worth="zero_variance")
    begun(queue, 4, 5)
    complete(queue, 4)
    assert queue.take() == Taken(trained=(4,), rejected=(0, 1))
    queue.trained()
    complete(queue, 5)
    assert queue.take() == Taken(trained=(5,), rejected=(2, 3))
    queue.trained()
    assert queue.complete_groups == 0


def test_without_oversampling_every_group_is_trained_on() -> None:
    queue = GroupQueue(rules(1, 1))
    begun(queue, 0, 1)
    complete(queue, 0, worth="zero_variance")
    complete(queue, 1)
    assert queue.take() == Taken(trained=(0,))


def test_no_more_begins_than_the_last_steps_can_consume() -> None:
    queue = GroupQueue(rules(2, 4, steps=6), trained=5)
    begun(queue, 0, 1)
    assert not queue.may_begin()
    complete(queue, 0, 1)
    assert queue.take() is not None
    assert not queue.may_begin()


def test_a_step_must_be_trained_before_the_next_takes_its_groups() -> None:
    queue = GroupQueue(rules(1, 1))
    begun(queue, 0)
    complete(queue, 0)
    queue.take()
    with pytest.raises(RuntimeError, match="step 1 has its groups"):
        queue.take()


@dataclass
class Story:
    """A run whose events come in random order, and which a process may be killed in at any moment."""

    rules: QueueRules
    dice: random.Random
    informative: float
    queue: GroupQueue = field(init=False)
    given: list[int] = field(default_factory=list)
    """Groups that are about to begin."""
    given_back: list[int] = field(default_factory=list)
    """Those that had not when the process was killed."""
    began: dict[int, int] = field(default_factory=dict)
    """Version of the oldest token of each group that was begun."""
    consumed: list[int] = field(default_factory=list)
    stored: dict[int, Worth] = field(default_factory=dict)
    """What is on disk: the complete groups."""
    steps: list[Taken] = field(default_factory=list)

    def run(self) -> "Story":
        self.queue = GroupQueue(self.rules)
        training = False
        while self.queue.version < self.rules.steps:
            running = [number for number in self.began if number not in self.stored]
            moves = ["train"] if training else ["take"]
            may_begin = self.queue.may_begin(about_to=len(self.given))
            moves += ["give"] if may_begin else []
            moves += ["begin"] * bool(self.given)
            moves += ["end"] * bool(running)
            moves += ["kill"] * (self.dice.random() < 0.02 and not training)
            match self.dice.choice(moves):
                case "give":
                    number = (
                        self.given_back.pop()
                        if self.given_back
                        else len(self.began) + len(self.given) + len(self.given_back)
                    )
                    self.given.append(number)
                case "begin":
                    number = self.given.pop(self.dice.randrange(len(self.given)))
                    self.queue.begin(number)
                    self.began[number] = self.queue.version
                    self.check_bounds()
                case "end":
                    number = self.dice.choice(running)
                    worth = "informative" if self.dice.random() < self.informative else self.dice.choice(WORTHS[1:])
                    self.stored[number] = worth
                    self.queue.complete(number, worth)
                case "take":
                    taken = self.queue.take()
                    if taken is None:
                        assert running or self.given or may_begin, "the run stands still"
                    else:
                        self.take(taken)
                        training = True
                case "train":
                    self.queue.trained()
                    training = False
                case "kill":
                    self.restart()
        return self

    def take(self, taken: Taken) -> None:
        assert len(taken.trained) == self.rules.groups_per_step
        left = (*taken.trained, *taken.rejected, *taken.dropped)
        assert len(left) == len(set(left)), "a group leaves once"
        assert not set(left) & set(self.consumed), "and never again"
        assert set(left) <= self.stored.keys()
        ages = [self.queue.version - self.began[number] for number in taken.trained]
        assert max(ages) <= self.rules.max_staleness
        if self.rules.stale == "wait" or not self.rules.max_staleness:
            assert not taken.dropped
        if self.rules.consumed_per_step == self.rules.groups_per_step:
            assert not taken.rejected
        self.consumed += left
        self.steps.append(taken)
        if self.rules.stale == "wait":
            ahead = len(self.steps) + self.rules.max_staleness
            assert len(self.consumed) <= self.rules.consumed_per_step * ahead, "a step costs what it costs at 0"

    def check_bounds(self) -> None:
        ahead = self.rules.max_staleness + 1
        fresh = [
            number
            for number in self.began.keys() - set(self.consumed)
            if self.rules.stale == "wait" or self.queue.version - self.began[number] <= self.rules.max_staleness
        ]
        assert len(fresh) + len(self.given) <= self.rules.consumed_per_step * ahead
        if self.rules.max_staleness:
            oversamples = self.rules.consumed_per_step > self.rules.groups_per_step
            worth_it = [n for n in fresh if not oversamples or self.stored.get(n, "informative") == "informative"]
            assert len(worth_it) + len(self.given) <= self.rules.groups_per_step * ahead

    def restart(self) -> None:
        """What was not complete is rolled out again, with the weights of then or, in part, of before."""
        consumed = sum(len(taken.trained) + len(taken.rejected) for taken in self.steps)
        self.queue = GroupQueue(self.rules, trained=self.queue.version, consumed=consumed)
        self.given_back, self.given = [*self.given_back, *self.given], []
        again = [number for number in self.began if number not in self.consumed]
        for number in again:
            if number not in self.stored and self.dice.random() < 0.5:
                self.began[number] = self.queue.version
            self.queue.begin(number, self.began[number])
        for number in again:
            if number in self.stored:
                self.queue.complete(number, self.stored[number])


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    per_step=st.integers(1, 4),
    more=st.integers(0, 4),
    staleness=st.integers(0, 4),
    stale=st.sampled_from(["wait", "drop"]),
    informative=st.sampled_from([0.0, 0.3, 0.8, 1.0]),
)
def test_bounds_hold_and_nothing_is_lost_or_doubled(
    seed: int, per_step: int, more: int, staleness: int, stale: str, informative: float
) -> None:
    asked = rules(per_step, staleness, rolled_out=per_step + more, steps=12, stale=stale)
    story = Story(asked, random.Random(seed), informative).run()
    assert len(story.steps) == 12
    if stale == "wait" and staleness and not more:
        left = {*story.began, *story.given} - set(story.consumed)
        assert not left, "every group that began was trained on"
