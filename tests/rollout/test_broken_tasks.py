"""A task whose tests cannot be run is told from patches that break the tests, once, and its samples count nowhere."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from swe_aem.core import LimitHits, Outcome, TaskRecord, TestStatus, Verdict
from swe_aem.errors import GraderError, StartError, UserError
from swe_aem.rollout import RunAborted, broken_tasks
from swe_aem.testing.builders import make_record
from swe_aem.testing.sandbox import FakeBackend
from tests.rollout.fakes import GRADED, FakeAgent, FakeGrader

MakeBench = Callable[..., Any]

NO_MODULE = "+ python -m pytset\n/usr/bin/python: No module named pytset\nswe-aem-0123456789abcdef0123456789abcdef: 1\n"
NOTHING = Verdict(
    resolved=False,
    patch_applied=True,
    fail_to_pass={"t::a": TestStatus.MISSING},
    pass_to_pass={"t::b": TestStatus.MISSING},
    test_exit_code=1,
    log_tail=NO_MODULE,
)
ONE_AT_A_TIME = {"concurrency": 1, "grading": 1}


def verdicts(patch: Verdict, gold: Verdict) -> FakeGrader:
    async def grading(grader: Any, record: TaskRecord, given: Any, sandbox: Any) -> Verdict:
        return gold if given in ("", record.key.gold_patch) else patch

    return FakeGrader(grading=grading)


def without_gold(record: TaskRecord) -> TaskRecord:
    return record.model_copy(update={"key": record.key.model_copy(update={"gold_patch": ""})})


def controls(made: Any) -> int:
    return sum(sandbox.spec.labels["role"] == "control" for sandbox in made.backend.opened)


async def test_a_task_whose_gold_patch_collects_nothing_either_is_broken(bench: MakeBench) -> None:
    made = bench(1, grader=verdicts(NOTHING, NOTHING), settings={"group_size": 4}, scheduling=ONE_AT_A_TIME)
    stored = await made.run()
    assert Counter(one.outcome for one in stored.values()) == {Outcome.BROKEN_TASK: 4}
    assert {one.reward for one in stored.values()} == {None}
    for one in stored.values():
        assert one.error.endswith("(exit code 1); its log ends with: /usr/bin/python: No module named pytset")
    assert controls(made) == 2, "measured once, with two controls that agree"
    assert len(made.agent.runs) <= 2, "what starts later gets no sandbox"
    summary = made.progress.summary()
    assert list(summary.broken_tasks) == ["task-0"]
    assert (summary.infrastructure_failures, summary.retries) == (0, 0)
    assert any("task-0" in line and "pytset" in line for line in made.progress.news)


async def test_of_its_log_the_error_is_told_that_pytest_ends_with_other_lines_after(bench: MakeBench) -> None:
    log = "E   ModuleNotFoundError: No module named 'kit'\n===== short test summary =====\n==== 1 error in 0.1s ====\n"
    lost = NOTHING.model_copy(update={"log_tail": log})
    (one,) = (await bench(1, grader=verdicts(lost, lost)).run()).values()
    said = "its log says: E   ModuleNotFoundError: No module named 'kit' ... and ends with: ==== 1 error in 0.1s ===="
    assert one.error.endswith(said)


async def test_controls_run_in_the_slots_of_those_who_wait_for_them(bench: MakeBench) -> None:
    async def grading(grader: Any, record: TaskRecord, given: Any, sandbox: Any) -> Verdict:
        for _ in range(20):  # others get their turn
            await asyncio.sleep(0)
        return NOTHING

    grader = FakeGrader(grading=grading)
    made = bench(6, grader=grader, settings={"group_size": 2}, scheduling={"concurrency": 12, "grading": 2})
    assert Counter(one.outcome for one in (await made.run()).values()) == {Outcome.BROKEN_TASK: 12}
    assert controls(made) == 12
    assert grader.most == 2


async def test_what_was_measured_is_kept_for_the_next_run(bench: MakeBench) -> None:
    made = bench(1, grader=verdicts(NOTHING, NOTHING))
    await made.run()
    made.settings, made.agent, made.backend = {"group_size": 3}, FakeAgent(), FakeBackend()
    stored = await made.run()
    assert Counter(one.outcome for one in stored.values()) == {Outcome.BROKEN_TASK: 3}
    assert (made.agent.runs, made.backend.opened) == ([], [])


@pytest.mark.parametrize("changed", ["script", "image"])
async def test_a_task_that_changed_is_measured_again(bench: MakeBench, changed: str) -> None:
    made = bench(1, grader=verdicts(NOTHING, NOTHING), settings={"group_size": 2}, scheduling=ONE_AT_A_TIME)
    await made.run()
    mended = made.records[0]
    if changed == "script":
        mended = mended.model_copy(update={"key": mended.key.model_copy(update={"eval_script": "false"})})
    else:
        mended = mended.model_copy(update={"task": mended.task.model_copy(update={"image": "another"})})
    made.records, made.grader, made.settings = [mended], FakeGrader(), {"group_size": 3}
    assert (await made.run())["task-0", 2].outcome is Outcome.RESOLVED


async def test_a_patch_that_breaks_collection_is_unresolved(bench: MakeBench) -> None:
    made = bench(1, grader=verdicts(NOTHING, GRADED), settings={"group_size": 4})
    stored = await made.run()
    assert Counter((one.outcome, one.reward) for one in stored.values()) == {(Outcome.UNRESOLVED, 0.0): 4}
    assert controls(made) == 1
    made.settings = {"group_size": 5}
    await made.run()
    assert controls(made) == 1, "kept"


async def test_a_gold_patch_that_does_not_apply_shows_a_broken_task(bench: MakeBench) -> None:
    refused = Verdict(resolved=False, patch_applied=False, log_tail="error: patch failed: x:1\n")
    one = (await bench(1, grader=verdicts(NOTHING, refused)).run())["task-0", 0]
    assert (one.outcome, one.error) == (
        Outcome.BROKEN_TASK,
        "the gold patch does not apply: error: patch failed: x:1",
    )


@pytest.mark.parametrize(
    ("code", "control", "outcome", "measured"),
    [
        (127, 127, Outcome.BROKEN_TASK, 2),
        (126, 126, Outcome.BROKEN_TASK, 2),
        (127, 1, Outcome.UNRESOLVED, 1),
        (1, 1, Outcome.UNRESOLVED, 0),
    ],
)
async def test_without_a_gold_patch_only_a_command_that_cannot_be_run_is_a_sign(
    bench: MakeBench, code: int, control: int, outcome: Outcome, measured: int
) -> None:
    patch, untouched = (NOTHING.model_copy(update={"test_exit_code": one}) for one in (code, control))
    made = bench(1, grader=verdicts(patch, untouched), records=[without_gold(make_record())])
    assert (await made.run())["task-0", 0].outcome is outcome
    assert controls(made) == measured


@pytest.mark.parametrize(
    "change",
    [
        {"patch_applied": False},
        {"timed_out": True},
        {"integrity": ("hooks the test run",)},
        {"pass_to_pass": {"t::b": TestStatus.FAILED}},
    ],
)
async def test_what_has_another_reason_is_not_measured(bench: MakeBench, change: dict[str, Any]) -> None:
    made = bench(1, grader=verdicts(NOTHING.model_copy(update=change), NOTHING))
    assert (await made.run())["task-0", 0].reward == 0.0
    assert controls(made) == 0


async def test_a_control_that_fails_says_nothing_and_is_not_kept(bench: MakeBench) -> None:
    async def grading(grader: Any, record: TaskRecord, given: Any, sandbox: Any) -> Verdict:
        if given == record.key.gold_patch:
            raise GraderError("no sandbox for the control")
        return NOTHING

    made = bench(1, grader=FakeGrader(grading=grading))
    with pytest.raises(RunAborted, match="whether task-0 is broken was not found out"):
        await made.run()
    made.grader = verdicts(NOTHING, NOTHING)
    assert (await made.run())["task-0", 0].outcome is Outcome.BROKEN_TASK


def gold_in_turn(*turns: Verdict | Exception | LimitHits) -> FakeGrader:
    """Every patch breaks all tests; the controls end in these ways one after the other, then with results."""
    rest = list(turns)

    async def grading(grader: Any, record: TaskRecord, given: Any, sandbox: Any) -> Verdict:
        if given != record.key.gold_patch:
            return NOTHING
        turn = rest.pop(0) if rest else GRADED
        if isinstance(turn, Exception):
            raise turn
        if isinstance(turn, LimitHits):
            sandbox.hits = turn
            return NOTHING
        return turn

    return FakeGrader(grading=grading)


@pytest.mark.parametrize(
    "odd",
    [
        GraderError("no processor for the control"),
        OSError(28, "No space left on device"),
        NOTHING,
        NOTHING.model_copy(update={"eval_s": 10.0, "starved_s": 3.0}),
        LimitHits(oom_kills=1),
        LimitHits(pids_refused=1),
    ],
    ids=["fails", "the host's disk", "nothing found", "starved", "memory", "processes"],
)
async def test_one_odd_control_decides_nothing(bench: MakeBench, odd: Any) -> None:
    made = bench(1, grader=gold_in_turn(odd))
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.reward) == (Outcome.UNRESOLVED, 0.0)
    assert len(made.agent.runs) == 1
    assert controls(made) == 2
    (row,) = json.loads((made.directory / "broken_tasks.json").read_text()).values()
    assert row["broken"] is False


def limited(patch: Verdict, gold: Verdict, *, patch_hits: LimitHits, gold_hits: LimitHits) -> FakeGrader:
    """Grading in sandboxes whose limits are hit."""

    async def grading(grader: Any, record: TaskRecord, given: Any, sandbox: Any) -> Verdict:
        is_gold = given == record.key.gold_patch
        sandbox.hits = gold_hits if is_gold else patch_hits
        return gold if is_gold else patch

    return FakeGrader(grading=grading)


CUT_SHORT = Verdict(
    resolved=False,
    patch_applied=True,
    fail_to_pass={"t::a": TestStatus.PASSED},
    pass_to_pass={"t::b": TestStatus.MISSING},
    exit_code=137,
)
HITS = [
    (LimitHits(oom_kills=1), "1 processes ended for want of memory, raise limits.memory_bytes (--memory)"),
    (LimitHits(pids_refused=9), "9 processes or threads not started, raise limits.pids (--pids)"),
    (LimitHits(disk_kills=2), "2 commands ended for what they wrote, raise limits.disk_bytes (--disk)"),
]


@pytest.mark.parametrize("verdict", [CUT_SHORT, NOTHING], ids=["some results", "none"])
@pytest.mark.parametrize(("hits", "why"), HITS, ids=["memory", "processes", "disk"])
async def test_a_task_whose_gold_patch_hits_the_limits_too_is_broken_under_them(
    bench: MakeBench, verdict: Verdict, hits: LimitHits, why: str
) -> None:
    grader = limited(verdict, verdict, patch_hits=hits, gold_hits=hits)
    made = bench(1, grader=grader, settings={"group_size": 3}, scheduling=ONE_AT_A_TIME)
    stored = await made.run()
    assert Counter((one.outcome, one.reward) for one in stored.values()) == {(Outcome.BROKEN_TASK, None): 3}
    assert stored["task-0", 0].error.endswith(f"its sandbox hits its limits: {why}")
    assert controls(made) == 2, "measured once, with two controls that agree"
    made.grader, made.settings = FakeGrader(), {"group_size": 4, "limits": {"memory_bytes": 8 << 30}}
    assert (await made.run())["task-0", 3].outcome is Outcome.RESOLVED, "other limits, another answer"


@pytest.mark.parametrize(
    ("gold", "gold_hits"),
    [(GRADED, LimitHits()), (GRADED, LimitHits(oom_kills=1)), (CUT_SHORT, LimitHits())],
    ids=["resolved", "resolved although it hits them", "not resolved for another reason"],
)
async def test_a_patch_that_hits_limits_which_the_gold_patch_keeps_is_unresolved(
    bench: MakeBench, gold: Verdict, gold_hits: LimitHits
) -> None:
    made = bench(1, grader=limited(CUT_SHORT, gold, patch_hits=LimitHits(oom_kills=1), gold_hits=gold_hits))
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.reward) == (Outcome.UNRESOLVED, 0.0)
    assert controls(made) == 1


async def test_a_patch_whose_grades_fail_at_limits_is_measured_too(bench: MakeBench) -> None:
    async def grading(grader: Any, record: TaskRecord, given: Any, sandbox: Any) -> Verdict:
        sandbox.hits = LimitHits(oom_kills=1)
        if given != record.key.gold_patch:
            raise GraderError("the log cannot be read")
        return CUT_SHORT

    assert (await bench(1, grader=FakeGrader(grading=grading)).run())["task-0", 0].outcome is Outcome.BROKEN_TASK


async def test_limits_that_were_hit_are_not_measured_where_the_patch_is_resolved(bench: MakeBench) -> None:
    hits = LimitHits(oom_kills=1)
    made = bench(1, grader=limited(GRADED, CUT_SHORT, patch_hits=hits, gold_hits=hits))
    assert (await made.run())["task-0", 0].outcome is Outcome.RESOLVED
    assert controls(made) == 0


async def test_two_controls_after_an_odd_one_show_a_broken_task(bench: MakeBench) -> None:
    made = bench(1, grader=gold_in_turn(LimitHits(oom_kills=1), NOTHING, NOTHING))
    assert (await made.run())["task-0", 0].outcome is Outcome.BROKEN_TASK


async def test_a_result_that_cannot_be_written_is_measured_again(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [OSError(28, "No space left on device")]

    def full_once(path: Any, text: str) -> None:
        if failures:
            raise failures.pop()
        path.write_text(text)

    monkeypatch.setattr(broken_tasks, "replace", full_once)
    made = bench(1, grader=verdicts(NOTHING, NOTHING))
    assert (await made.run())["task-0", 0].outcome is Outcome.BROKEN_TASK
    assert (made.directory / "broken_tasks.json").exists()


async def test_an_engine_that_does_not_name_an_image_once_ends_no_run(bench: MakeBench) -> None:
    class Hiccup(FakeBackend):
        asked, fails_at = 0, 0

        async def image_digest(self, image: str) -> str:
            self.asked += 1
            if self.asked == self.fails_at:
                raise StartError("the engine did not answer")
            return await super().image_digest(image)

    made = bench(1, grader=verdicts(NOTHING, NOTHING), backend=Hiccup())
    await made.run()
    samples = 1
    for fails_at in range(1, 8):
        samples += 1
        made.settings, made.backend = {"group_size": samples}, Hiccup()
        made.backend.fails_at = fails_at
        assert {one.outcome for one in (await made.run()).values()} == {Outcome.BROKEN_TASK}


async def test_a_file_that_cannot_be_read_says_what_to_do(bench: MakeBench) -> None:
    made = bench(1, grader=verdicts(NOTHING, NOTHING))
    await made.run()
    file = made.directory / "broken_tasks.json"
    assert [row["task_id"] for row in json.loads(file.read_text()).values()] == ["task-0"]
    file.write_text("{")
    made.settings = {"group_size": 2}
    with pytest.raises(UserError, match=r"broken_tasks\.json cannot be read .* delete it"):
        await made.run()
