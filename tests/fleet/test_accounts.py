"""What a fleet counts: events once, places as soon as they are free, tries to join, the budget of the whole run."""

import asyncio
import errno
from pathlib import Path
from typing import Any

import pytest

from swe_aem.core import ChatCompletion, Trajectory
from swe_aem.errors import PolicyError, RunAborted
from swe_aem.fleet.outbox import Outbox
from swe_aem.rollout import BudgetConfig
from swe_aem.testing.virtual_time import run_in_virtual_time
from tests.fleet.fakes import FleetBench
from tests.fleet.test_fleet import after, all_resolved
from tests.rollout.fakes import AskingAgent, FakeChat


def test_events_that_come_again_are_counted_once(tmp_path: Path) -> None:
    async def main() -> None:
        made = FleetBench(tmp_path, tasks=2, scheduling={"max_attempts": 9})
        made.host("a")
        made.backends["a"].fail_starts = 5
        await made.run()
        all_resolved(made)
        assert made.bench.progress.failed_attempts == 5

    run_in_virtual_time(main())


def test_events_that_have_arrived_are_not_kept() -> None:
    outbox = Outbox(BudgetConfig())
    for text in "abc":
        outbox.tell(text)
    assert [event.number for event in outbox.report().events] == [1, 2, 3]
    outbox.arrived(2)
    assert [event.arguments for event in outbox.report().events] == [("c",)]
    outbox.arrived(3)
    assert outbox.report().events == ()


def test_a_place_is_free_while_what_its_agent_did_is_graded(tmp_path: Path) -> None:
    async def main() -> float:
        made = FleetBench(tmp_path, tasks=2, work_s=20.0, scheduling={"grading": 4})
        made.bench.grader.work_s = 20.0
        made.host("a")
        await made.run()
        all_resolved(made)
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(main()) < 2 * 20 + 20 + 10  # the second four work while the first four are graded


def test_a_host_that_cannot_join_is_tried_ever_more_rarely(tmp_path: Path) -> None:
    async def full() -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def main() -> None:
        made = FleetBench(tmp_path, tasks=1, work_s=200.0)
        full_host, _ = made.host("a"), made.host("b")
        made.backends["a"].answers = full  # type: ignore[method-assign]
        await made.run()
        all_resolved(made)
        assert 5 <= len(full_host.agents) <= 9, "after 2, 4, 8, 16, 32 and then every 60 s"

    run_in_virtual_time(main())


class SlowChat(FakeChat):
    """It takes two seconds."""

    async def chat(self, *arguments: Any, **named: Any) -> ChatCompletion:
        await asyncio.sleep(2.0)
        return await super().chat(*arguments, **named)


class LongAgent(AskingAgent):
    """It asks twenty times, which is more than the limits say."""

    async def run(self, *arguments: Any, **named: Any) -> Trajectory:
        self.turns = lambda task_id, sample: 20
        return await super().run(*arguments, **named)


def test_agents_end_at_their_next_request_once_all_hosts_together_have_used_up_the_budget(tmp_path: Path) -> None:
    async def main() -> None:
        made = FleetBench(tmp_path, tasks=10, make_agent=LongAgent)
        made.bench.policies = lambda record, sample: SlowChat()
        made.bench.most_tokens = 500
        made.bench.settings["budget"] = {"tokens": 4_000}  # room for eight, each of which would use 2,000
        made.host("a")
        made.host("b")
        ended = await made.run()
        assert ended.budget_spent
        assert 4_000 <= made.bench.progress.spending.used.tokens <= 8_000

    run_in_virtual_time(main())


def test_a_policy_that_answers_nobody_ends_the_run(tmp_path: Path) -> None:
    async def main() -> None:
        made = FleetBench(tmp_path, tasks=4, make_agent=AskingAgent)
        made.bench.policies = lambda record, sample: FakeChat(fails=lambda chat: PolicyError("no route"))
        made.host("a")
        made.host("b")
        with pytest.raises(RunAborted, match="the policy has answered no request"):
            await made.run()

    run_in_virtual_time(main())


def test_a_host_that_is_refused_in_the_middle_ends_no_run(tmp_path: Path) -> None:
    async def main() -> None:
        made = FleetBench(tmp_path, tasks=6)
        first = made.host("a")

        def replace() -> None:
            made.engine.lose(first)
            made.host("b")
            made.backends["b"].down = True

        with pytest.raises(RunAborted, match=r"no host of the cluster has worked for 500 s .*does not answer"):
            await made.run(after(6.0, replace))
        assert made.bench.stored()

    run_in_virtual_time(main())
