"""The summary's numbers, and the display's."""

import asyncio
import io
import json
from pathlib import Path

import pytest

from swe_aem.core import Outcome
from swe_aem.errors import StartError, UserError
from swe_aem.rollout.display import line, rollout_facts, show
from swe_aem.rollout.progress import RunProgress
from swe_aem.store import (
    Summary,
    Totals,
    broken_task_lines,
    count_trajectory,
    failed_attempt,
    read_summary,
    write_summary,
)
from swe_aem.store.measurements import Measurements
from swe_aem.testing.builders import make_trajectory


@pytest.fixture
def totals() -> Totals:
    """Two groups: one complete with a limit that resolved, one with an infrastructure failure."""
    made = Totals()
    made.add(make_trajectory("t", 0))
    made.add(make_trajectory("t", 1, outcome=Outcome.TURN_LIMIT, reward=1.0, attempt=1))
    made.add(make_trajectory("u", 0, outcome=Outcome.UNRESOLVED, reward=0.0))
    made.add(make_trajectory("u", 1, outcome=Outcome.INFRASTRUCTURE, reward=None, responses=(), attempt=2))
    return made


def summary(totals: Totals) -> Summary:
    return totals.summary(wanted=6, group_size=2, surplus_cancelled=1, wall_s=120.0)


def test_numbers(totals: Totals) -> None:
    made = summary(totals)
    assert (made.agent, made.policy) == (make_trajectory("t", 0).agent, make_trajectory("t", 0).model)
    assert (made.trajectories, made.wanted, made.groups, made.groups_complete) == (4, 6, 2, 1)
    assert (made.resolved, made.infrastructure_failures, made.retries) == (2, 1, 3)
    assert made.failed_attempts == 4, "the retried ones and the one that no retry cured"
    assert made.resolved_rate == pytest.approx(2 / 3), "infrastructure failures are not in the denominator"
    assert made.outcomes == {"resolved": 1, "turn_limit": 1, "unresolved": 1, "infrastructure": 1}
    assert (made.turns, made.tool_calls, made.tokens, made.sampled_tokens) == (3, 3, 20, 6)
    assert (made.malformed_calls, made.converted_calls) == (0, 0)
    assert (made.seconds_per_turn, made.tool_p50_s, made.start_p50_s, made.grade_p95_s) == (2.0, 0.5, 0.1, 0.2)
    assert (made.wall_s, made.trajectories_per_min, made.surplus_cancelled) == (120.0, 2.0, 1)


def test_malformed_and_converted_calls_are_counted() -> None:
    response = make_trajectory("t", 0).responses[0]
    ok = response.tool_calls[0]
    calls = (ok, ok.model_copy(update={"converted": 2}), ok.model_copy(update={"status": "malformed"}))
    made = Totals()
    made.add(make_trajectory("t", 0, responses=(response.model_copy(update={"tool_calls": calls}),)))
    assert (summary(made).tool_calls, summary(made).malformed_calls, summary(made).converted_calls) == (3, 1, 1)


def test_the_file_has_the_names_that_others_rely_on_and_is_read_back(tmp_path: Path, totals: Totals) -> None:
    write_summary(tmp_path, summary(totals))
    names = json.loads((tmp_path / "summary.json").read_text())
    assert {"trajectories", "resolved", "resolved_rate", "outcomes", "infrastructure_failures", "wall_s"} <= set(names)
    assert read_summary(tmp_path) == summary(totals)


def test_a_broken_task_is_named_and_is_no_infrastructure_failure(totals: Totals) -> None:
    totals.add(make_trajectory("v", 0, outcome=Outcome.BROKEN_TASK, reward=None, error="no module named pytset"))
    made = summary(totals)
    assert made.broken_tasks == {"v": "no module named pytset"}
    assert made.infrastructure_failures == 1
    assert made.resolved_rate == pytest.approx(2 / 3), "broken tasks are not in the denominator"
    assert rollout_facts(RunProgress(totals, wanted=6, group_size=2))["broken tasks"] == "1"
    told = list(broken_task_lines(made.broken_tasks))
    assert "v: no module named pytset" in told[0]
    assert "swe-aem sandbox shell v " in told[1]


def test_an_empty_run_has_a_summary() -> None:
    made = summary(Totals())
    assert (made.trajectories, made.resolved_rate, made.tool_p95_s, made.outcomes) == (0, 0.0, None, {})
    assert (made.agent, made.policy) == (None, None)


def test_reading_what_is_not_there_or_broken(tmp_path: Path) -> None:
    assert read_summary(tmp_path) is None
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(UserError, match="delete it"):
        read_summary(tmp_path)


def test_quantiles_are_nearest_rank() -> None:
    sample = Measurements()
    assert sample.quantile(0.5) is None
    for value in range(1, 101):
        sample.add(float(value))
    assert (sample.quantile(0.5), sample.quantile(0.95), sample.quantile(1.0), sample.mean()) == (51, 96, 100, 50.5)


def test_the_display_shows_what_runs_and_how_it_went(totals: Totals) -> None:
    progress = RunProgress(totals, wanted=6, group_size=2)
    progress.phase("t.2", "agent")
    progress.phase("t.3", "agent")
    progress.phase("u.2", "grade")
    shown = rollout_facts(progress)
    assert shown["done"] == "4/6"
    assert shown["running"] == "3 (2 agent, 1 grade)"
    assert (shown["resolved"], shown["unresolved"], shown["limits"]) == ("2", "1", "1")
    assert shown["infrastructure"] == "1 (+3 attempts retried)"
    assert "resolved 2" in line(progress, rollout_facts)
    progress.left("u.2")
    assert rollout_facts(progress)["running"] == "2 (2 agent)"


def test_the_eta_counts_this_process_only(totals: Totals) -> None:
    progress = RunProgress(totals, wanted=6, group_size=2)
    assert progress.eta_s is None
    progress.stored(count_trajectory(make_trajectory("v", 0)))
    assert progress.eta_s == pytest.approx(progress.elapsed_s, rel=0.5)


@pytest.mark.parametrize("terminal", [False, True])
async def test_news_are_shown_on_a_terminal_and_elsewhere(totals: Totals, terminal: bool) -> None:
    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    stream = Stream()
    progress = RunProgress(totals, wanted=6, group_size=2)
    place = {"task_id": "t", "sample": 0, "attempt": 1, "part": "agent", "phase": "start"}
    progress.failed(failed_attempt(StartError("[no] engine"), **place))
    progress.group_ended("t", [1.0, None])
    task = asyncio.create_task(show(progress, every_s=0.1, stream=stream))
    await asyncio.sleep(0.7)
    progress.news.append("late news")
    task.cancel()
    await asyncio.wait({task})
    for text in ("StartError: [no] engine", "t: rewards 1 -", "4/6"):
        assert text in stream.getvalue()
    assert not progress.news
