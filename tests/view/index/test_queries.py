"""What an index answers equals a plain loop over the store, whatever is in it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swe_aem.audit import labelled
from swe_aem.core import Outcome, Response, ToolCall, Trajectory, Verdict
from swe_aem.core.outcomes import in_baseline, is_resolved
from swe_aem.testing.builders import make_trajectory
from swe_aem.train.steps import is_broken, varied
from swe_aem.view.index import Filter, Order, SortColumn, StoreIndex
from tests.view.index.stores import write_store

TOOLS = ("bash", "edit", "<b>submit</b>")


@st.composite
def trajectories(draw: st.DrawFn) -> list[Trajectory]:
    """Up to 12 trajectories of up to 4 tasks."""
    keys = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=12, unique=True))
    return [draw(one_trajectory(task, sample)) for task, sample in keys]


@st.composite
def one_trajectory(draw: st.DrawFn, task: int, sample: int) -> Trajectory:
    outcome = draw(st.sampled_from(list(Outcome)))
    calls = tuple(
        ToolCall(name=name, arguments={"command": "x"}, status=draw(st.sampled_from(("ok", "malformed"))))
        for name in draw(st.lists(st.sampled_from(TOOLS), max_size=3))
    )
    turns = draw(st.integers(0, 2))
    responses = tuple(
        Response(
            start=2 * n, end=2 * n + 1, logprobs=(-0.5,), version=n, finish_reason="stop", sample_s=1.0,
            tool_calls=calls,
        )
        for n in range(turns)
    )  # fmt: skip
    counts = in_baseline(make_trajectory("t", 0, outcome=outcome))
    verdict = st.builds(
        Verdict,
        resolved=st.booleans(),
        official_resolved=st.sampled_from((None, True, False)),
        patch_applied=st.just(True),
    )
    return make_trajectory(
        f"Task-{task}\udcff",
        sample,
        outcome=outcome,
        reward=draw(st.sampled_from((0.0, 0.5, 1.0))) if counts else None,
        responses=responses,
        token_ids=tuple(range(draw(st.integers(2 * turns, 9)))),
        agent=draw(st.sampled_from(("native", "openhands"))),
        model=draw(st.sampled_from(("m", "m2\ud800"))),
        verdict=draw(st.none() | verdict),
        error=draw(st.none() | st.sampled_from(("it died after 3.1 s", "it died after 4.7 s", "\x1b[31mno disk\0"))),
        patch=draw(st.sampled_from(("", "diff --git a/x.py b/x.py\n--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-a\n+b\n"))),
        timings_s=draw(st.sampled_from(({}, {"total": 3.0}, {"total": 7.5, "agent": 1.0}))),
    )


def stored(directory: Path, several: list[Trajectory]) -> StoreIndex:
    """A store of these trajectories, indexed."""
    index = StoreIndex(write_store(directory, several))
    index.build()
    return index


CONDITIONS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Trajectory, Any], bool]]] = {
    "outcomes": (
        st.lists(st.sampled_from(list(Outcome)), min_size=1).map(tuple),
        lambda one, wanted: one.outcome in wanted,
    ),
    "tasks": (st.just(("Task-1\udcff", "Task-2\udcff")), lambda one, wanted: one.task_id in wanted),
    "task_part": (st.sampled_from(("task-2", "\udcff", "nowhere")), lambda one, part: part in one.task_id.lower()),
    "tools": (
        st.lists(st.sampled_from(TOOLS), min_size=1).map(tuple),
        lambda one, wanted: set(wanted) <= {call.name for response in one.responses for call in response.tool_calls},
    ),
    "labels": (st.just(("runs_tests",)), lambda one, wanted: set(wanted) <= labelled(one).labels.keys()),
    "agents": (st.just(("openhands",)), lambda one, wanted: one.agent in wanted),
    "models": (st.just(("m2\ud800",)), lambda one, wanted: one.model in wanted),
    "resolved": (st.booleans(), lambda one, wanted: is_resolved(one) == wanted),
    "disputed": (
        st.booleans(),
        lambda one, wanted: (
            wanted
            == (
                one.verdict is not None
                and one.verdict.official_resolved is not None
                and one.verdict.official_resolved != is_resolved(one)
            )
        ),
    ),
    "has_error": (st.booleans(), lambda one, wanted: (one.error is not None) == wanted),
    "min_reward": (st.just(0.5), lambda one, limit: one.reward is not None and one.reward >= limit),
    "max_reward": (st.just(0.5), lambda one, limit: one.reward is not None and one.reward <= limit),
    "min_turns": (st.just(1), lambda one, limit: len(one.responses) >= limit),
    "max_tokens": (st.just(5), lambda one, limit: one.tokens <= limit),
    "min_total_s": (st.just(5.0), lambda one, limit: one.timings_s.get("total", -1) >= limit),
}
"""Each condition of a filter: values, and what it means for a trajectory."""

SORTED: dict[SortColumn, Callable[[Trajectory], Any]] = {
    "task": lambda one: (one.task_id.replace("\udcff", "\U0010dcff"), one.sample),
    "outcome": lambda one: str(one.outcome),
    "reward": lambda one: one.reward,
    "turns": lambda one: len(one.responses),
    "tokens": lambda one: one.tokens,
    "total_s": lambda one: one.timings_s.get("total"),
}


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(several=trajectories(), data=st.data())
def test_answers_equal_a_plain_loop(
    several: list[Trajectory], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    index = stored(tmp_path_factory.mktemp("store"), several)
    names = data.draw(st.lists(st.sampled_from(sorted(CONDITIONS)), max_size=3, unique=True))
    values = {name: data.draw(CONDITIONS[name][0]) for name in names}
    filter = Filter(**values)
    through = [one for one in several if all(CONDITIONS[name][1](one, value) for name, value in values.items())]

    totals = index.totals(filter)
    assert totals.trajectories == len(through)
    assert totals.resolved == sum(is_resolved(one) and in_baseline(one) for one in through)
    assert totals.tokens == sum(one.tokens for one in through)

    by, descending = data.draw(st.sampled_from(sorted(SORTED))), data.draw(st.booleans())
    number = data.draw(st.integers(1, 3))
    page = index.page(filter, Order(by=by, descending=descending), number=number, size=5)
    expected = [one.key for one in expected_order(through, SORTED[by], descending)]
    shown = min(number, page.pages)
    assert [row.key for row in page.rows] == expected[(shown - 1) * 5 : shown * 5]
    assert page.total == len(through)
    for row in page.rows:
        one = next(one for one in several if one.key == row.key)
        assert (row.outcome, row.reward, row.tokens, row.turns) == (
            one.outcome,
            one.reward,
            one.tokens,
            len(one.responses),
        )
        assert index.load(row.key) == one

    for place, key in enumerate(expected, start=1):
        beside = index.neighbours(key, filter, Order(by=by, descending=descending))
        assert (beside.place, beside.total) == (place, len(expected))
        assert beside.previous == (expected[place - 2] if place > 1 else None)
        assert beside.next == (expected[place] if place < len(expected) else None)
        assert [row.key for row in beside.group] == sorted(one.key for one in several if one.task_id == key.task_id)


def expected_order(several: list[Trajectory], key: Callable[[Trajectory], Any], descending: bool) -> list[Trajectory]:
    """Sorted by a key, missing values last, ties by task and sample."""
    by_task = sorted(several, key=SORTED["task"])
    known = [one for one in by_task if key(one) is not None]
    return sorted(known, key=key, reverse=descending) + [one for one in by_task if key(one) is None]


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(several=trajectories())
def test_counts_groups_and_solve_rates_equal_a_plain_loop(
    several: list[Trajectory], tmp_path_factory: pytest.TempPathFactory
) -> None:
    index = stored(tmp_path_factory.mktemp("store"), several)
    tasks = {one.task_id for one in several}
    members = {
        id: tuple(sorted((one for one in several if one.task_id == id), key=lambda one: one.sample)) for id in tasks
    }

    facets = index.facets(("outcome", "tool", "agent", "cause"))
    assert {(value.value, value.trajectories) for value in facets["outcome"]} == {
        (str(outcome), sum(one.outcome is outcome for one in several)) for outcome in {one.outcome for one in several}
    }
    for value in facets["tool"]:
        having = [one for one in several if any(c.name == value.value for r in one.responses for c in r.tool_calls)]
        assert value.trajectories == len(having)
    assert sum(value.trajectories for value in facets["cause"]) == sum(one.error is not None for one in several)
    assert {value.value for value in facets["cause"]} <= {"it died after # s", "\x1b[31mno disk\0"}

    page = index.groups(size=500)
    assert {group.task_id: [one.sample for one in group.members] for group in page.groups} == {
        id: [one.sample for one in group] for id, group in members.items()
    }
    for group in page.groups:
        own = members[group.task_id]
        counted = any(map(in_baseline, own))
        assert group.broken == is_broken(own)
        assert group.zero_variance == (counted and not is_broken(own) and not varied(own))
    assert page.zero_variance == sum(group.zero_variance for group in page.groups)

    matrix = index.matrix(columns=100)
    assert matrix.by == "sample"
    for row in matrix.rows:
        for column, cell in zip(matrix.columns, row.cells, strict=True):
            own = [one for one in members[row.task_id] if one.sample == column.first]
            assert (cell is None) == (not own)
            if cell is not None:
                counting = [one for one in own if in_baseline(one)]
                assert (cell.trajectories, cell.counted) == (len(own), len(counting))
                assert cell.resolved == sum(map(is_resolved, counting))
    assert matrix.all.all.trajectories == len(several)
