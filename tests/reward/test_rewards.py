"""Rewards: what the outcome table leaves to functions, what functions may give, and what they can never do."""

import asyncio
import itertools
import math
import threading
from typing import Any

import pytest

from swe_aem.core import OUTCOME_TABLE, Branch, Outcome, Response, ToolCall, Trajectory, Verdict
from swe_aem.errors import ExtensionFailed
from swe_aem.reward import REWARDS, Rewards
from swe_aem.testing.builders import make_trajectory

NUMBERS = itertools.count()
UNRESOLVED = Verdict(resolved=False, patch_applied=True, fail_to_pass_fraction=0.5, pass_to_pass_fraction=1.0)


def paying(value: Any) -> str:
    """The name of a function that pays always the same."""

    def pays(trajectory: Trajectory, verdict: Verdict) -> Any:
        return value

    pays.__qualname__ = f"pays_{next(NUMBERS)}"
    return REWARDS.add(pays)


def with_calls(*statuses: tuple[Any, ...], **changes: Any) -> Trajectory:
    """A trajectory whose responses have tool calls of these statuses."""
    responses = tuple(
        Response(
            start=n,
            end=n + 1,
            logprobs=(-0.5,),
            version=0,
            finish_reason="stop",
            sample_s=0.1,
            tool_calls=tuple(ToolCall(name="bash", arguments={}, status=status) for status in calls),
        )
        for n, calls in enumerate(statuses)
    )
    return make_trajectory("t", 0, responses=responses, token_ids=tuple(range(len(responses))), **changes)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_functions_are_asked_about_what_the_table_leaves_to_them_and_nothing_else(outcome: Outcome) -> None:
    rule = OUTCOME_TABLE[outcome]
    asked = rule.reward == "graded"
    paid = Rewards({"a": paying(7.0), "b": {"type": paying([1.0]), "weight": 2}})(
        make_trajectory("t", 0, outcome=outcome, reward=123.0, response_rewards=(9.0,), reward_terms={"old": 1.0})
    )
    assert paid.reward == (9.0 if asked else rule.reward)
    assert paid.reward_terms == ({"a": 7.0, "b": 1.0} if asked else {})
    assert paid.response_rewards == ((9.0,) if asked else None)
    assert asked == (outcome.value in "resolved unresolved empty_patch tests_hang turn_limit context_limit time_limit")
    assert (paid.outcome, paid.verdict) == (outcome, make_trajectory("t", 0).verdict)


def test_what_no_function_pays_is_never_paid_more_than_what_one_pays() -> None:
    """0 is the least that anybody gets, so a cheat is never better off than an honest failure."""
    fixed = {rule.reward for rule in OUTCOME_TABLE.values() if rule.in_baseline and rule.reward != "graded"}
    assert fixed == {0.0}
    with pytest.raises(ExtensionFailed, match=r"is -0.1, below 0: 0 is what a cheat and a killed sandbox get"):
        Rewards(paying(-0.1))(make_trajectory("t", 0))
    with pytest.raises(ExtensionFailed, match="below 0"):
        Rewards({"a": "resolved", "b": paying([-2.0])})(make_trajectory("t", 0))
    assert Rewards({"a": "resolved", "b": paying([-0.25])})(make_trajectory("t", 0)).reward == 0.75


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (math.nan, "is nan: give a finite number"),
        (math.inf, "is inf: give a finite number"),
        (None, "is None: a reward cannot leave a trajectory out; give a number"),
        ("1.0", "is '1.0'; give a number"),
        ({"a": 1.0}, "give a number, or a list with one number per response"),
        ([], r"is a list of 0 numbers, and the trajectory has 1 responses: give one number per response"),
        ([1.0, 2.0], "a list of 2 numbers, and the trajectory has 1 responses"),
        ([math.nan], r"is a list with nan in it: give finite numbers"),
        ([None], "a list with None in it"),
        (1j, r"is 1j; give a number"),
    ],
)
def test_what_is_no_reward_is_an_error_that_says_what_to_give(value: Any, said: str) -> None:
    with pytest.raises(ExtensionFailed, match=said) as caught:
        Rewards(paying(value))(make_trajectory("t", 3))
    assert " of t.3 is " in str(caught.value)


def test_numbers_of_other_libraries_are_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    assert Rewards(paying(numpy.float32(0.5)))(make_trajectory("t", 0)).reward == 0.5
    assert Rewards(paying(numpy.array([0.5])))(make_trajectory("t", 0)).response_rewards == (0.5,)
    assert Rewards(paying(True))(make_trajectory("t", 0)).reward == 1.0


def test_a_function_that_raises_is_named_with_the_trajectory_and_its_exception() -> None:
    def broken(trajectory: Trajectory, verdict: Verdict) -> float:
        return 1 / 0

    with pytest.raises(ExtensionFailed, match=r"broken of t.0 raised ZeroDivisionError: division by zero") as caught:
        Rewards(REWARDS.add(broken))(make_trajectory("t", 0))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_function_changes_nothing_of_what_it_is_given() -> None:
    def meddles(trajectory: Trajectory, verdict: Verdict) -> float:
        trajectory.messages[0]["content"] = "changed"
        trajectory.responses[0].tool_calls[0].arguments.clear()
        trajectory.timings_s.clear()
        verdict.fail_to_pass.clear()
        object.__setattr__(verdict, "resolved", False)
        object.__setattr__(trajectory, "outcome", Outcome.INFRASTRUCTURE)
        return 0.5

    given = make_trajectory("t", 0)
    before = given.model_dump_json()
    paid = Rewards({"meddles": REWARDS.add(meddles), "resolved": "resolved"})(given)
    assert given.model_dump_json() == before
    assert paid == given.model_copy(update={"reward": 1.5, "reward_terms": {"meddles": 0.5, "resolved": 1.0}})


def test_a_function_always_has_a_verdict_and_no_reward_to_copy() -> None:
    seen: list[Any] = []

    def looks(trajectory: Trajectory, verdict: Verdict) -> float:
        seen.append((verdict.resolved, verdict.patch_applied, trajectory.outcome, trajectory.reward))
        return verdict.fail_to_pass_fraction

    empty = make_trajectory("t", 0, outcome=Outcome.EMPTY_PATCH, verdict=None, patch="")
    paid = Rewards(REWARDS.add(looks))(empty)
    assert seen == [(False, False, Outcome.EMPTY_PATCH, None)]
    assert (paid.reward, paid.verdict) == (0.0, None)


def test_terms_are_weighed_and_recorded_before_their_weights() -> None:
    rewards = Rewards(
        {"tests": "fraction", "style": {"type": "format", "weight": 0.1}, "seen": {"type": paying(5), "weight": 0}}
    )
    paid = rewards(with_calls(("ok",), ("malformed",), verdict=UNRESOLVED, outcome=Outcome.UNRESOLVED))
    assert paid.reward_terms == {"tests": 0.5, "style": 0.5, "seen": 5.0}
    assert paid.reward == pytest.approx(0.55)
    assert paid.response_rewards is None


def test_a_number_for_the_trajectory_is_paid_at_its_last_response() -> None:
    rewards = Rewards({"tests": "resolved", "style": {"type": "format", "per": "response", "weight": 0.3}})
    paid = rewards(with_calls(("ok",), ("malformed",), ("ok", "ok")))
    assert paid.response_rewards == pytest.approx((0.1, 0.0, 1.1))
    assert paid.reward == pytest.approx(sum(paid.response_rewards or ()))
    assert paid.reward_terms == {"tests": 1.0, "style": pytest.approx(2 / 3)}


def test_nothing_sampled_has_no_rewards_by_response() -> None:
    paid = Rewards("format")(with_calls(outcome=Outcome.EMPTY_PATCH, verdict=None))
    assert (paid.reward, paid.response_rewards) == (0.0, None)
    paid = Rewards({"type": "format", "per": "response"})(with_calls(outcome=Outcome.EMPTY_PATCH, verdict=None))
    assert (paid.reward, paid.response_rewards) == (0.0, None)


@pytest.mark.parametrize(
    ("statuses", "share"), [([("ok",)], 1.0), ([("ok", "malformed")], 0.0), ([(), ("ok",)], 0.5), ([()], 0.0)]
)
def test_format_wants_a_call_in_each_response(statuses: list[tuple[str, ...]], share: float) -> None:
    assert Rewards("format")(with_calls(*statuses)).reward == share


def test_turns_cost_a_share_so_that_no_failure_is_paid_for_being_short() -> None:
    costs = Rewards({"type": "turn_cost", "per_turn": 0.1, "most": 0.3})
    assert costs(with_calls(("ok",))).reward == pytest.approx(0.9)
    assert costs(with_calls(*[("ok",)] * 9)).reward == pytest.approx(0.7)
    assert costs(with_calls(outcome=Outcome.EMPTY_PATCH, verdict=None)).reward == 0.0
    assert costs(with_calls(("ok",), outcome=Outcome.UNRESOLVED, verdict=UNRESOLVED)).reward == 0.0
    of_fraction = Rewards({"type": "turn_cost", "of": "fraction", "per_turn": 0.1})
    assert of_fraction(with_calls(("ok",), outcome=Outcome.UNRESOLVED, verdict=UNRESOLVED)).reward == pytest.approx(
        0.45
    )


def test_turns_of_branches_cost_too() -> None:
    plain = with_calls(("ok",))
    branch = Branch(token_ids=(0,), responses=plain.responses)
    costs = Rewards({"type": "turn_cost", "per_turn": 0.1})
    assert costs(plain.model_copy(update={"branches": (branch,)})).reward == pytest.approx(0.8)


async def test_own_functions_run_one_at_a_time_beside_the_event_loop() -> None:
    running = 0
    threads = set()

    def slow(trajectory: Trajectory, verdict: Verdict) -> float:
        nonlocal running
        running += 1
        threads.add(threading.current_thread())
        assert running == 1
        ticked.wait(5)
        running -= 1
        return 1.0

    ticked = threading.Event()
    rewards = Rewards(REWARDS.add(slow))
    work = [asyncio.create_task(rewards.give(make_trajectory("t", n))) for n in range(3)]
    await asyncio.sleep(0)
    ticked.set()
    assert [(await one).reward for one in work] == [1.0] * 3
    assert threading.main_thread() not in threads


async def test_a_function_that_does_not_return_ends_the_run_in_words() -> None:
    def waits(trajectory: Trajectory, verdict: Verdict) -> float:
        for_ever.wait()
        return 1.0

    for_ever = threading.Event()
    rewards = Rewards(REWARDS.add(waits), limit_s=0.01)
    try:
        with pytest.raises(ExtensionFailed, match=r"waits of t.* has not returned within 0.01 s"):
            await rewards.give(make_trajectory("t", 0))
    finally:
        for_ever.set()


async def test_a_function_that_would_end_the_process_is_an_error_of_its_own() -> None:
    def leaves(trajectory: Trajectory, verdict: Verdict) -> float:
        raise SystemExit("bye")

    with pytest.raises(ExtensionFailed, match="raised SystemExit: bye"):
        await Rewards(REWARDS.add(leaves)).give(make_trajectory("t", 0))
