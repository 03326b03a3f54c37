"""Predictions are graded once each, whatever fails, ends or is changed in between. Over fakes."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from swe_aem.core import Outcome, TaskRecord, TrajectoryKey, Verdict
from swe_aem.errors import GraderError, SandboxDead, UserError
from swe_aem.rollout import RunAborted
from swe_aem.store import keep_log, log_path, read_graded
from swe_aem.testing.builders import make_record
from tests.predictions.conftest import GradeBench, predicted
from tests.rollout.fakes import GRADED, FakeGrader

KEYS = ("instance_id", "resolved", "official_resolved", "outcome", "reward", "evidence", "failure", "wall_s", "cpu_s")


def answering(*verdicts: Verdict | Exception) -> FakeGrader:
    """A grader that answers in this order, and then resolves."""
    left = list(verdicts)

    async def grading(*_: object) -> Verdict:
        answer = left.pop(0) if left else GRADED
        if isinstance(answer, Exception):
            raise answer
        return answer

    return FakeGrader(grading=grading)


async def test_every_prediction_gets_one_line_with_the_promised_keys(tmp_path):
    unresolved = Verdict(
        resolved=False, official_resolved=True, patch_applied=True, integrity=("it cheats",), cpu_s=0.5,
        fail_to_pass=GRADED.fail_to_pass,
    )  # fmt: skip
    bench = GradeBench(tmp_path, predicted("a.0", "a.1", "b.0"), answering(unresolved), scheduling={"grading": 1})
    result = await bench.run()
    rows = [json.loads(line) for line in (tmp_path / "verdicts.jsonl").read_text().splitlines()]
    assert [tuple(row)[: len(KEYS)] for row in rows] == [KEYS] * 3
    assert [(row["instance_id"], row["sample"], row["outcome"], row["reward"]) for row in rows] == [
        ("a", 0, "integrity_violation", 0.0), ("a", 1, "resolved", 1.0), ("b", 0, "resolved", 1.0),
    ]  # fmt: skip
    assert (rows[0]["official_resolved"], rows[0]["evidence"], rows[0]["cpu_s"]) == (True, ["it cheats"], 0.5)
    assert not result.interrupted
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["predictions"], summary["verdicts"], summary["resolved"]) == (3, 3, 2)
    assert summary["pass_at_1"]["value"] == 0.75
    (difference,) = summary["differences"]
    assert (difference["task_id"], difference["why"]) == ("a", "it cheats")
    assert not bench.backend.live


async def test_an_empty_patch_needs_no_sandbox(tmp_path):
    bench = GradeBench(tmp_path, predicted("a.0", patch=""))
    await bench.run()
    assert bench.rows()["a.0"].outcome is Outcome.EMPTY_PATCH
    assert bench.rows()["a.0"].resolved is False
    assert bench.grader.graded == []


async def test_an_infrastructure_failure_is_tried_again_in_a_fresh_sandbox(tmp_path):
    bench = GradeBench(tmp_path, predicted("a.0"), answering(SandboxDead("gone")))
    await bench.run()
    row = bench.rows()["a.0"]
    assert (row.resolved, row.attempt, row.failure) == (True, 1, None)


async def test_what_no_retry_cures_is_no_verdict_and_a_rerun_tries_it_again(tmp_path):
    failing = answering(*[GraderError("no")] * 20)
    failing.judging = lambda grader: failing.grading()  # the control fails alike
    bench = GradeBench(tmp_path, predicted("a.0", "b.0"), failing, scheduling={"grading": 1, "max_attempts": 2})
    result = await bench.run()
    rows = bench.rows()
    assert {(row.outcome, row.resolved, row.reward) for row in rows.values()} == {(Outcome.GRADER_FAILURE, None, None)}
    assert "GraderError: no" in str(rows["a.0"].failure)
    assert len(result.summary.failures) == 2
    again = GradeBench(tmp_path, bench.predictions)
    result = await again.run()
    assert result.summary.failures == ()
    assert [row.resolved for row in again.rows().values()] == [True, True]
    assert len(again.grader.graded) == 2


async def test_a_log_that_a_killed_run_left_behind_is_not_that_of_another_verdict(tmp_path):
    keep_log(tmp_path, TrajectoryKey("a", 0), b"of a run that was killed before it wrote its verdict")
    await GradeBench(tmp_path, predicted("a.0")).run()
    assert not log_path(tmp_path, TrajectoryKey("a", 0)).exists()


async def test_a_rerun_grades_only_what_is_missing(tmp_path):
    await GradeBench(tmp_path, predicted("a.0", "b.0")).run()
    more = GradeBench(tmp_path, predicted("a.0", "b.0", "c.0"))
    await more.run()
    assert more.grader.graded == ["c"]
    assert list(more.rows()) == ["a.0", "b.0", "c.0"]


async def test_a_torn_line_is_graded_again(tmp_path):
    await GradeBench(tmp_path, predicted("a.0", "b.0"), scheduling={"grading": 1}).run()
    path = tmp_path / "verdicts.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    again = GradeBench(tmp_path, predicted("a.0", "b.0"))
    await again.run()
    assert again.grader.graded == ["b"]
    assert list(again.rows()) == ["a.0", "b.0"]


async def test_a_line_that_was_changed_is_refused(tmp_path):
    await GradeBench(tmp_path, predicted("a.0", "b.0"), scheduling={"grading": 1}).run()
    path = tmp_path / "verdicts.jsonl"
    path.write_text(path.read_text().replace('"reward": 1.0', '"reward": 0.0', 1))
    with pytest.raises(UserError, match=r"verdicts\.jsonl, line 1: the verdict is damaged"):
        await GradeBench(tmp_path, predicted("a.0", "b.0")).run()


def rewritten() -> TaskRecord:
    record = make_record("a")
    task = record.task.model_copy(update={"problem_statement": "Another."})
    return record.model_copy(update={"task": task})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"predictions": predicted("a.0", patch="another")}, "other predictions: the patch of a.0 is another"),
        ({"predictions": predicted("b.0")}, "the patch of a.0 is gone"),
        ({"settings": {"sandbox": "docker"}}, 'sandbox.type was "bubblewrap" and is now "docker"'),
        ({"settings": {"tasks": "nano"}}, 'tasks was "tasks/micro" and is now "nano"'),
        ({"records": [rewritten()]}, "tasks whose content is now another"),
    ],
    ids=["another patch", "no patch", "sandbox", "tasks", "content"],
)
async def test_a_directory_belongs_to_its_inputs(tmp_path, changes, said):
    await GradeBench(tmp_path, predicted("a.0")).run()
    with pytest.raises(UserError) as refused:
        await GradeBench(tmp_path, **{"predictions": predicted("a.0"), **changes}).run()
    assert said in str(refused.value)
    assert list(GradeBench(tmp_path, predicted("a.0")).rows()) == ["a.0"]


async def test_a_store_is_no_place_for_verdicts(tmp_path):
    (tmp_path / "trajectories").mkdir()
    with pytest.raises(UserError, match="holds a rollout"):
        await GradeBench(tmp_path, predicted("a.0")).run()


async def test_when_nothing_works_any_more_the_run_ends(tmp_path):
    names = [f"t{n}.0" for n in range(30)]
    bench = GradeBench(tmp_path, predicted(*names), answering(*[GraderError("no")] * 500))
    bench.backend.fail_starts = 10_000
    with pytest.raises(RunAborted, match="attempts in a row to grade a patch failed"):
        await bench.run()
    assert len(bench.rows()) < 30
    assert json.loads((tmp_path / "summary.json").read_text())["verdicts"] == 0


SCRIPT = Path(__file__).with_name("killable.py")


def start(directory: Path, count: int, work_s: float) -> subprocess.Popen[str]:
    """The process, with at least one grading running."""
    command = [sys.executable, str(SCRIPT), str(directory), str(count), str(work_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if not process.stdout.readline():
        raise AssertionError(process.communicate()[1])
    return process


@pytest.mark.slow
def test_kill_9_at_random_moments_loses_and_repeats_no_verdict(tmp_path):
    dice = random.Random(7)
    known: set[str] = set()
    for _ in range(3):
        process = start(tmp_path, 60, 0.1)
        while len(read_graded(tmp_path)) == len(known) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(dice.random() * 0.3)
        process.kill()
        process.communicate()
        found = [str(row.key) for row in read_graded(tmp_path)]
        assert len(found) == len(set(found))
        assert known <= set(found), "a verdict was lost"
        known = set(found)
    assert 0 < len(known) < 60, "the kills came too early or too late to prove anything"
    process = start(tmp_path, 60, 0.0)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert len(read_graded(tmp_path)) == 60
    assert json.loads((tmp_path / "summary.json").read_text())["resolved"] == 60


@pytest.mark.slow
def test_the_first_signal_lets_what_runs_finish(tmp_path):
    process = start(tmp_path, 60, 0.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "running ones may finish" in errors
    assert 1 <= len(read_graded(tmp_path)) <= 4
