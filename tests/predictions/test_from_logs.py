"""A store is graded again by a parser that was changed, from its logs alone. No sandbox is opened here."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from swe_aem.core import Outcome, Stop, TaskRecord, TestStatus, TrajectoryKey, Verdict
from swe_aem.errors import HostFailed, UserError
from swe_aem.grading import SwebenchParser
from swe_aem.grading.conclusion import EvaluationEnd
from swe_aem.grading.kept_log import pack_log
from swe_aem.grading.log_file import LogFile
from swe_aem.predictions import from_logs, grade_from_logs
from swe_aem.rollout import RolloutConfig
from swe_aem.store import Store, keep_log, log_path, read_graded
from swe_aem.tasks import TaskSet
from swe_aem.testing.builders import make_record, make_trajectory

in_the_loop_of_the_parser = pytest.mark.asyncio(loop_scope="module")

FIXED_PARSER = """
from swe_aem.grading import worker
from swe_aem.tasks.families import log_parsers

def read(log):
    words = [line.split() for line in log.splitlines()]
    return {word[1]: {"OKAY": "PASSED", "NO": "FAILED"}[word[0]] for word in words if word[0:1] in (["OKAY"], ["NO"])}

today = log_parsers.PARSERS["multi_swe_bench"]
log_parsers.PARSERS[today.name] = today.model_copy(update={"read": read})
worker.main()
"""
"""The worker with a parser in the place of today's that knows the words of the logs below."""

MISSED = Verdict(
    resolved=False,
    official_resolved=False,
    patch_applied=True,
    fail_to_pass={"t::a": TestStatus.MISSING},
    pass_to_pass={"t::b": TestStatus.MISSING},
    exit_code=0,
)
"""What today's parser makes of them."""


def fixed_parser() -> SwebenchParser:
    return SwebenchParser((sys.executable, "-c", FIXED_PARSER))


def record(task_id: str) -> TaskRecord:
    made = make_record(task_id)
    return made.model_copy(update={"key": made.key.model_copy(update={"log_parser": "multi_swe_bench"})})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fixed() -> AsyncIterator[SwebenchParser]:
    """One worker for all tests, because loading swebench takes seconds."""
    async with fixed_parser() as parser:
        yield parser


TASKS = TaskSet("set", tuple(map(record, ("a", "b", "c"))))
CONFIG = RolloutConfig(tasks="set")


def packed(task: TaskRecord, directory: Path, output: str) -> bytes:
    """The kept log of an evaluation with that output of the tests."""
    (directory / "output.log").write_text(f"BEGIN\n+ : START\n{output}\n+ : 'END'\nCODE: 0\n")
    log = LogFile(path=directory / "output.log", begin="BEGIN", start="START", end="END", code="CODE")
    end = EvaluationEnd(
        exit_code=0, timed_out=False, killed_for=None, wall_s=2.0, starved_s=0.0, cpu_s=1.5, tail="",
        refused=("setup.py (runs code)",),
    )  # fmt: skip
    return pack_log(task, task.key.eval_script, log, end, (), 1 << 20)


GOOD, BAD = "OKAY t::a\nOKAY t::b", "NO t::a\nOKAY t::b"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Of task a: one sample that a fixed parser resolves and one that it does not; of b: one that ran into a limit, one
    that its twins convict, one without a log; of c: a grader that failed on the log, and an empty patch."""
    directory = tmp_path / "store"
    a, b, c = TASKS.records
    limit = {"stop": Stop.TURN_LIMIT, "outcome": Outcome.TURN_LIMIT}
    convicted = MISSED.model_copy(update={"integrity": ("its twins passed",)})
    cheat = {"outcome": Outcome.INTEGRITY_VIOLATION, "verdict": convicted}
    failed = {"outcome": Outcome.GRADER_FAILURE, "reward": None, "verdict": None, "error": "the parser failed"}
    empty = {"outcome": Outcome.EMPTY_PATCH, "verdict": None, "patch": ""}
    unresolved = {"outcome": Outcome.UNRESOLVED, "reward": 0.0, "verdict": MISSED}
    with Store(directory).writer() as writer:
        for task, sample, changes, output in (
            (a, 0, {}, GOOD), (a, 1, {}, BAD), (b, 0, limit, GOOD), (b, 1, cheat, GOOD), (b, 2, {}, None),
            (c, 0, failed, GOOD), (c, 1, empty, None),
        ):  # fmt: skip
            log = packed(task, tmp_path, output) if output else b""
            writer.append(make_trajectory(task.task.id, sample, **{**unresolved, **changes}), log)
    return directory


@in_the_loop_of_the_parser
async def test_a_parser_that_was_fixed_changes_what_it_read_wrongly(store, tmp_path, fixed):
    found = await grade_from_logs(CONFIG, TASKS, store, tmp_path / "again", parser=fixed)
    changed = {str(row.key): (row.before.outcome, row.outcome, row.reward) for row in found.changed}
    assert changed == {
        "a.0": ("unresolved", "resolved", 1.0),
        "b.0": ("turn_limit", "turn_limit", 1.0),
        "c.0": ("grader_failure", "resolved", 1.0),
    }
    assert [str(row.key) for row in found.officially_changed] == ["a.0", "b.0", "b.1", "c.0"]
    rows = {str(row.key): row for row in read_graded(tmp_path / "again")}
    assert rows == {str(row.key): row for row in found.rows}
    assert rows["b.1"].evidence == ("its twins passed",)
    assert rows["a.1"].verdict.fail_to_pass == {"t::a": TestStatus.FAILED}
    assert rows["a.0"].verdict.stripped_files == ("setup.py (runs code)",)
    assert (rows["a.0"].cpu_s, rows["c.0"].failure) == (1.5, None)
    assert found.stayed == {"no log was kept": 1, "no tests were run": 1}
    summary = json.loads((tmp_path / "again" / "summary.json").read_text())
    assert (summary["resolved"], summary["verdicts"]) == (3, 7)


@in_the_loop_of_the_parser
async def test_what_was_read_again_is_read_again_from_where_its_logs_are(store, tmp_path, fixed):
    await grade_from_logs(CONFIG, TASKS, store, tmp_path / "again", parser=fixed)
    with pytest.raises(UserError, match="has no kept logs"):
        await grade_from_logs(CONFIG, TASKS, tmp_path / "again", tmp_path / "third")
    await grade_from_logs(CONFIG, TASKS, store, tmp_path / "again", parser=fixed)  # the same command once more
    assert len(read_graded(tmp_path / "again")) == 7


@in_the_loop_of_the_parser
async def test_logs_that_say_too_little_leave_the_verdict_as_it_was(store, tmp_path, fixed):
    changed = [one.model_copy(update={"key": one.key.model_copy(update={"test_patch": "x"})}) for one in TASKS]
    found = await grade_from_logs(CONFIG, TaskSet("set", tuple(changed)), store, tmp_path / "again", parser=fixed)
    assert found.changed == ()
    assert found.stayed["the task's tests or their script are others now"] == 5
    log_path(store, TrajectoryKey("a", 0)).write_bytes(b"PK")
    found = await grade_from_logs(CONFIG, TASKS, store, tmp_path / "again", parser=fixed)
    assert "a.0" not in {str(row.key) for row in found.changed}


@in_the_loop_of_the_parser
async def test_a_host_that_fails_on_one_log_ends_the_reading_of_all(store, tmp_path, monkeypatch):
    read, calls = from_logs.read_kept_log, []

    async def fails_first(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise HostFailed("no space")
        return await read(*arguments)

    monkeypatch.setattr(from_logs, "read_kept_log", fails_first)
    async with asyncio.timeout(60):
        with pytest.raises(HostFailed, match="no space"):
            await grade_from_logs(CONFIG, TASKS, store, tmp_path / "again")
    assert read_graded(tmp_path / "again") == []


@in_the_loop_of_the_parser
async def test_wrong_sources_name_the_fix(store, tmp_path):
    with pytest.raises(UserError, match="--from-logs needs a store or a directory"):
        await grade_from_logs(CONFIG, TASKS, tmp_path, tmp_path / "again")
    with pytest.raises(UserError, match=r"no verdict in .* is on a chosen task"):
        await grade_from_logs(CONFIG, TaskSet("other", (record("z"),)), store, tmp_path / "again")


def test_names_of_logs_are_safe_and_differ(tmp_path):
    keys = [TrajectoryKey(id, 0) for id in ("a/b", "a%2Fb", "../x", "é", "x" * 300, "x" * 301, "\udcff")]
    paths = {log_path(tmp_path, key) for key in keys}
    assert len(paths) == len(keys)
    for key in keys:
        keep_log(tmp_path, key, b"log")
        assert log_path(tmp_path, key).read_bytes() == b"log"
    assert {path.parent for path in paths} == {tmp_path / "logs"}


def test_the_command_says_how_many_changed_and_which(store, tmp_path, monkeypatch):
    from swe_aem.cli import grade

    monkeypatch.setattr("swe_aem.predictions.from_logs.SwebenchParser", fixed_parser)
    monkeypatch.setattr(grade, "_tasks", lambda settings: TASKS)
    words = ["--tasks", "set", "--predictions", str(store), "--from-logs", "--out", str(tmp_path / "again")]
    done = CliRunner().invoke(grade.app, words, catch_exceptions=False)
    assert done.exit_code == 0
    assert "7 verdicts in" in done.stdout
    assert "3 changed; swebench's rule alone says something else of 4" in done.stdout
    assert "a.0     unresolved      resolved    -" in done.stdout
    assert "1 stay as they were: no log was kept" in done.stdout
