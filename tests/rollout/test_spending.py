"""Budgets in tokens and money: what starts, what is sent, what is stored, and that a rerun resumes."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

from swe_aem.core import SamplingParams, TrajectoryKey, Usage, Verdict, is_chat
from swe_aem.errors import BudgetSpent, PolicyError, UserError
from swe_aem.policy import AnswersLost
from swe_aem.rollout import BudgetConfig, RolloutConfig, RolloutRun
from swe_aem.rollout.agent_clock import AgentClock
from swe_aem.rollout.breaker import FirstAnswer
from swe_aem.rollout.display import rollout_facts
from swe_aem.rollout.metered import metered
from swe_aem.rollout.spending import Ended, Spending, Used
from swe_aem.store import Store
from swe_aem.tasks import TaskSet
from swe_aem.testing.chat import ScriptedChat
from tests.rollout.fakes import AskingAgent, FakeChat, FakeGrader, resolve
from tests.waiting import until

MakeBench = Callable[..., Any]
SERVED = {"agent": "native", "policy": "http://localhost:9", "tokenizer": "bytes"}
"""Settings of a policy that may cost something."""


def key(number: int) -> TrajectoryKey:
    return TrajectoryKey(f"task-{number}", 0)


def used(tokens: int) -> Usage:
    return Usage(prompt_tokens=tokens, completion_tokens=0, cost_usd=tokens / 1000)


async def starts(spending: Spending, number: int) -> bool | None:
    """Does a trajectory start? None if it waits."""
    starting = asyncio.ensure_future(spending.start(key(number)))
    for _ in range(3):
        await asyncio.sleep(0)
    if starting.done():
        return starting.result()
    starting.cancel()
    return None


# What starts


async def test_before_one_has_ended_as_many_start_as_the_limits_of_all_fit_into_the_budget() -> None:
    spending = Spending(BudgetConfig(tokens=1000), most_tokens=400)
    assert [await starts(spending, n) for n in range(3)] == [True, True, None]


async def test_with_a_budget_in_money_one_runs_alone_until_a_price_is_known() -> None:
    spending = Spending(BudgetConfig(usd=1.0), most_tokens=400)
    assert [await starts(spending, n) for n in range(2)] == [True, None]
    spending.count(key(0), used(10))
    assert [await starts(spending, n) for n in (1, 2)] == [True, None]


async def test_one_that_has_ended_shows_what_others_need() -> None:
    spending = Spending(BudgetConfig(tokens=1000), most_tokens=1000)
    assert await starts(spending, 0)
    assert await starts(spending, 1) is None
    spending.count(key(0), used(100))
    spending.end(key(0), finished=True)
    assert [await starts(spending, n) for n in range(1, 6)] == [True, True, True, True, None]


async def test_who_used_more_than_any_before_may_need_as_much_again() -> None:
    spending = Spending(BudgetConfig(tokens=1000), ended=Ended(100, Used(100)), most_tokens=1000)
    assert await starts(spending, 0)
    spending.count(key(0), used(460))
    assert await starts(spending, 1) is None
    spending.end(key(0), finished=True)
    assert await starts(spending, 1)


async def test_a_rest_that_is_less_than_one_needs_is_not_spent() -> None:
    spending = Spending(BudgetConfig(tokens=1000), earlier=Used(901), ended=Ended(9, Used(100)))
    assert await starts(spending, 0) is False


async def test_without_a_budget_everything_starts_and_is_counted() -> None:
    spending = Spending(most_tokens=1 << 50)
    assert all([await starts(spending, n) for n in range(50)])
    spending.count(key(0), Usage(prompt_tokens=5, completion_tokens=6))
    assert (spending.used.tokens, spending.used.usd, spending.tokens_left) == (11, None, None)


async def test_nothing_is_sent_once_the_budget_is_used_up() -> None:
    spending = Spending(BudgetConfig(tokens=100))
    spending.require_left()
    spending.count(key(0), used(100))
    with pytest.raises(BudgetSpent):
        spending.require_left()


async def test_what_attempts_took_that_all_failed_is_of_the_budget() -> None:
    spending = Spending(BudgetConfig(tokens=100))
    policy = metered(
        ScriptedChat([AnswersLost("lost", used(70))]), key(0), spending, FirstAnswer(known=True), AgentClock(60.0)
    )
    assert is_chat(policy)
    for _ in range(2):
        with pytest.raises(AnswersLost):
            await policy.chat([], [], SamplingParams(max_tokens=1), trajectory_id="t.0")
    with pytest.raises(BudgetSpent):
        await policy.chat([], [], SamplingParams(max_tokens=1), trajectory_id="t.0")
    assert spending.used.tokens == 140


@pytest.mark.parametrize("waits", [False, True])
async def test_a_request_that_is_cut_off_counts_unless_it_was_not_sent(
    waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def stalls() -> str:
        asked.set()
        await asyncio.Event().wait()
        return ""

    spending = Spending(BudgetConfig())
    api = ScriptedChat(["Hi.", lambda messages: stalls()])
    policy = metered(api, key(0), spending, FirstAnswer(known=True), AgentClock(60.0))
    assert is_chat(policy)
    first = await policy.chat([], [], SamplingParams(max_tokens=1), trajectory_id="t.0")
    request = asyncio.ensure_future(policy.chat([], [], SamplingParams(max_tokens=50), trajectory_id="t.0"))
    await asked.wait()
    if waits:
        monkeypatch.setattr(ScriptedChat, "unavailable_reason", "a rate limit", raising=False)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    before = first.usage.tokens
    assert spending.used.tokens == (before if waits else 2 * before + 50)
    assert spending.used.usd == pytest.approx(spending.used.tokens / 1e6)


async def test_a_budget_in_money_needs_a_cost() -> None:
    spending = Spending(BudgetConfig(usd=1.0))
    with pytest.raises(UserError, match=r"policy.price.*--budget-tokens"):
        spending.count(key(0), Usage(prompt_tokens=5, completion_tokens=6))
    with pytest.raises(ValueError, match=r"budget\.usd is for policies that cost money, but policy is gold"):
        RolloutConfig.model_validate({"budget": {"usd": 1}})


# Runs


@pytest.mark.parametrize("budget", [{"tokens": 3249}, {"usd": 0.3249}, {"tokens": 10**9, "usd": 0.3249}])
async def test_a_budget_is_spent_on_whole_trajectories_and_a_rerun_with_more_resumes(
    bench: MakeBench, budget: dict[str, Any]
) -> None:
    chat = FakeChat()
    made = bench(12, agent=AskingAgent(), policies=lambda record, sample: chat, settings=SERVED | {"budget": budget})
    async with made.orchestrator() as orchestrator:
        await orchestrator.run()
    assert orchestrator.budget_spent
    assert not orchestrator.interrupted
    assert len(made.stored()) == 6, "500 tokens each"
    assert len(chat.asked) == 30, "nothing was asked that is not stored"
    made.settings = SERVED | {"budget": {"tokens": 10**9}}
    assert len(await made.run()) == 12
    assert len(chat.asked) == 60


async def test_at_the_end_of_a_budget_agents_end_and_what_is_graded_is_graded_to_its_end(bench: MakeBench) -> None:
    chat = FakeChat()

    async def until_it_is_spent(grader: Any, record: Any, patch: Any, sandbox: Any) -> Verdict:
        await until(lambda: made.progress.spending.spent)
        return await resolve(grader, record, patch, sandbox)

    made = bench(
        10,
        agent=AskingAgent(turns=lambda task_id, sample: 1 if task_id == "task-0" else 10**6),
        grader=FakeGrader(grading=until_it_is_spent),
        policies=lambda record, sample: chat,
        scheduling={"concurrency": 3},
        settings=SERVED | {"budget": {"tokens": 2000}},
    )
    async with made.orchestrator() as orchestrator:
        await orchestrator.run()
    assert set(made.stored()) == {("task-0", 0)}
    assert orchestrator.budget_spent
    assert 2000 <= made.progress.spending.used.tokens <= 2000 + 3 * 100
    assert not made.backend.live
    assert any("still ran when the budget was used up" in line for line in made.progress.news)


@pytest.mark.parametrize("seed", range(4))
async def test_no_budget_is_exceeded_by_more_than_a_response_of_each_agent(bench: MakeBench, seed: int) -> None:
    dice = random.Random(seed)
    turns = {f"task-{n}": dice.choice([1, 2, 5, 30]) for n in range(20)}
    agents, tokens = dice.randint(1, 8), dice.randint(1, 9000)
    chat = FakeChat()
    made = bench(
        20,
        agent=AskingAgent(turns=lambda task_id, sample: turns[task_id]),
        policies=lambda record, sample: chat,
        scheduling={"concurrency": agents},
        settings=SERVED | {"budget": {"tokens": tokens}},
    )
    async with made.orchestrator() as orchestrator:
        await orchestrator.run()
    assert made.progress.spending.used.tokens == 100 * len(chat.asked) <= tokens + 100 * agents
    assert orchestrator.budget_spent == (len(made.stored()) < 20)


def open_run(made: Any) -> RolloutRun:
    components = nullcontext(made.components())
    return RolloutRun(
        made.config(),
        TaskSet("fakes", tuple(made.records)),
        Store(made.directory),
        backend=made.backend,
        open_components=lambda config, tasks: components,
    )


async def test_what_failed_attempts_used_counts_and_is_known_to_a_rerun(bench: MakeBench) -> None:
    def breaks(chat: FakeChat) -> Exception | None:
        return PolicyError("broken off") if len(chat.asked) == 3 else None

    chat = FakeChat(fails=breaks)
    made = bench(
        3, agent=AskingAgent(), policies=lambda record, sample: chat, settings=SERVED | {"budget": {"tokens": 1200}}
    )
    with open_run(made) as rollout:
        first = await rollout.run()
    assert first.budget_spent
    assert not first.interrupted
    assert first.summary.trajectories == 2
    assert (first.summary.billed_tokens, first.summary.cost_usd) == (1200, pytest.approx(0.12))
    assert first.summary.failure_causes == {"agent: PolicyError: broken off": 1}
    with open_run(made) as rollout:
        assert (await rollout.run()).summary.trajectories == 2, "there is no more to spend"
    assert len(chat.asked) == 13
    made.settings = SERVED | {"budget": {"tokens": 1700}}
    with open_run(made) as rollout:
        last = await rollout.run()
    assert not last.budget_spent
    assert (last.summary.trajectories, last.summary.billed_tokens) == (3, 1700)
    assert Counter(chat.asked) == {"task-0.0": 8, "task-1.0": 5, "task-2.0": 5}


async def test_a_person_sees_what_was_used_and_what_is_left(bench: MakeBench) -> None:
    made = bench(
        2,
        agent=AskingAgent(),
        policies=lambda record, sample: FakeChat(),
        settings=SERVED | {"budget": {"tokens": 5000, "usd": 2.5}},
    )
    await made.run()
    facts = rollout_facts(made.progress)
    assert (facts["billed"], facts["cost"]) == ("1,000 tokens (4,000 left)", "$0.1000 ($2.40 left)")
