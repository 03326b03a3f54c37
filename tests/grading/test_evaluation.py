"""Markers of our own, the part of the log that counts, and evidence in it."""

import shlex
import time

import pytest

from swe_aem.core import Deadline, ExecResult, TestStatus
from swe_aem.errors import GraderError
from swe_aem.grading import evaluation
from swe_aem.grading.evaluation import Evaluation, evaluate, instrument
from swe_aem.grading.integrity import contradictions, neutralise
from swe_aem.grading.log_reading import output_of_tests, read_text
from swe_aem.grading.markers import CODE_MARKER, END_MARKER, START_MARKER, marker_problem

PASSED, FAILED = TestStatus.PASSED, TestStatus.FAILED
SCRIPT = f"""#!/bin/bash
set -uxo pipefail
echo before
: '{START_MARKER}'
COMMAND
SWEBENCH_TEST_EXIT_CODE=$?
: '{END_MARKER}'
echo "{CODE_MARKER}: $SWEBENCH_TEST_EXIT_CODE"
echo after
exit 7
"""


class Looked:
    """What an evaluation left, as the process that reads logs sees it."""

    def __init__(self, evaluation: Evaluation) -> None:
        self.result, self.file = evaluation.result, evaluation.log
        self.log = read_text(evaluation.log) if evaluation.log else ""
        self.begun = evaluation.log is not None and evaluation.log.begin in self.log
        self.body, self.test_exit_code = output_of_tests(self.log, evaluation.log) if evaluation.log else (None, None)


@pytest.fixture
def run(at, tmp_path):
    """Evaluate a test command on this machine."""

    async def run(command, limit_s=30.0):
        script = SCRIPT.replace("COMMAND", command)
        return Looked(await evaluate(at(tmp_path), script, str(tmp_path), limit_s, Deadline.after(60), tmp_path))

    return run


async def test_only_the_output_of_the_tests_counts(run):
    done = await run("echo tests; printf 'no newline'; (exit 5)")
    assert "echo tests\ntests" in done.body
    assert "before" not in done.body
    assert "after" not in done.body
    assert done.body.rstrip("\n").endswith("(exit 5)") or "no newline" in done.body
    assert done.test_exit_code == 5
    assert done.result.exit_code == 0


async def test_printed_markers_are_text_like_any_other(run):
    done = await run(f"echo '{START_MARKER}'; echo '{END_MARKER}'; echo '{CODE_MARKER}: 0'; echo tail; (exit 1)")
    assert "tail" in done.body
    assert done.test_exit_code == 1


async def test_the_script_is_nowhere_to_be_read_while_tests_run(run):
    done = await run("cat /proc/$$/cmdline; cat /proc/$$/environ; cat /proc/$$/fd/*; ls /tmp")
    script = instrument(SCRIPT.replace("COMMAND", "true"), "/private", "end everything")
    assert done.body is not None
    assert "SWEBENCH_TEST_EXIT_CODE=$?" not in done.body
    assert script.end not in done.body


async def test_without_an_end_there_is_no_body(run):
    done = await run("kill -9 $$")
    assert done.body is None
    assert done.result.exit_code == 137


async def test_a_script_that_runs_into_its_limit(run):
    done = await run("sleep 30", limit_s=0.5)
    assert done.result.timed_out


async def test_invalid_utf8_is_replaced(run):
    done = await run("printf '\\377\\n'")
    assert "\ufffd" in done.body


def test_after_the_end_marker_no_program_is_run():
    script = instrument(SCRIPT, "/private", "end everything")
    lines = script.text.split("\n")
    end = next(n for n, line in enumerate(lines) if line.startswith(": 'swe-aem-") and n > lines.index("COMMAND"))
    assert lines[end - 1] == "{ end everything; } 2>/dev/null"
    assert lines[end - 2] == "SWEBENCH_TEST_EXIT_CODE=$?"
    assert [line.split(" ")[:2] for line in lines[end + 1 :]] == [
        ["echo", f'"{script.code}:'],
        ["{", "IFS="],
        ["{", "["],
    ]


async def test_a_log_that_was_emptied_is_told(at, tmp_path):
    sandbox = at(tmp_path)
    script = SCRIPT.replace("COMMAND", f"truncate -s 0 {sandbox.root}/out-1")
    done = Looked(await evaluate(sandbox, script, str(tmp_path), 30.0, Deadline.after(60), tmp_path))
    assert not done.begun
    assert done.body is None


@pytest.mark.parametrize(
    "how",
    ["rm $LOG", "rm $LOG; mkdir $LOG", "rm $LOG; mkfifo $LOG", "echo lies >$LOG.x; mv $LOG.x $LOG", "chmod 0 $LOG"],
)
async def test_what_is_done_to_the_name_of_the_log_changes_nothing(backend, calc, how, tmp_path):
    script = SCRIPT.replace("COMMAND", f"LOG=$(readlink /proc/$$/fd/1); {how}; echo the tests ran")
    async with backend.open(calc.spec()) as sandbox:
        done = Looked(await evaluate(sandbox, script, "/testbed", 30.0, Deadline.after(60), tmp_path))
    assert done.body is not None
    assert "the tests ran" in done.body
    assert done.test_exit_code == 0


ESCAPES = {
    "exit code 127": "exit 127",
    "exit code 126 and no output": "truncate -s 0 $(readlink /proc/$$/fd/1); exit 126",
    "the shell's memory": "kill -9 $PPID; exit 127",
}


@pytest.mark.parametrize("how", ESCAPES)
async def test_once_a_shell_has_answered_none_of_its_ends_is_an_infrastructure_failure(backend, calc, how, tmp_path):
    script = SCRIPT.replace("COMMAND", f"bash -c {shlex.quote(ESCAPES[how])} || exit $?")
    async with backend.open(calc.spec()) as sandbox:
        done = Looked(await evaluate(sandbox, script, "/testbed", 30.0, Deadline.after(60), tmp_path))
    assert done.body is None


async def test_a_log_that_is_slow_to_search_is_cut_in_time(run):
    started = time.monotonic()
    done = await run("head -c 1000000 /dev/zero | tr '\\0' +")
    assert done.body.count("+") >= 1_000_000
    assert time.monotonic() - started < 20


async def test_a_log_above_the_bound_is_not_read(run, monkeypatch):
    monkeypatch.setattr(evaluation, "MAX_LOG_BYTES", 1000)
    done = await run("head -c 2000 /dev/zero")
    assert done.body is None
    assert done.file is None


@pytest.mark.parametrize(
    "script",
    [
        "pytest\n",
        f": '{START_MARKER}'\npytest\n",
        f": '{END_MARKER}'\n: '{START_MARKER}'\n",
        f": '{START_MARKER}'\n: '{START_MARKER}'\n: '{END_MARKER}'\n",
    ],
)
def test_scripts_without_one_pair_of_markers_are_refused(script):
    assert marker_problem(script)
    with pytest.raises(GraderError):
        instrument(script, "/private", "end everything")


def test_markers_inside_of_a_patch_are_left_alone():
    patch = f"+: '{START_MARKER}'\n : '{START_MARKER}'"
    script = SCRIPT.replace("COMMAND", f"cat <<'EOF'\n{patch}\nEOF")
    assert patch in instrument(script, "/private", "end everything").text


def test_markers_of_two_scripts_differ_and_so_do_those_of_one():
    one, two = instrument(SCRIPT, "/private", "end everything"), instrument(SCRIPT, "/private", "end everything")
    assert len({one.begin, one.start, one.end, one.code, two.begin, two.start, two.end, two.code}) == 8


LOG = """
collected 3 items
=================================== PASSES ====================================
ERROR    root:x.py:1 a captured log line
=========================== short test summary info ============================
PASSED t.py::a
PASSED t.py::b[x y]
SKIPPED [1] t.py:9: no
FAILED t.py::b[x z] - assert 0
ERROR t.py::a - teardown
=================== 1 failed, 2 passed, 1 skipped, 1 error in 65.32s (0:01:05) ===================
"""


def test_an_honest_log_has_no_contradictions(calc):
    assert (
        contradictions(calc.key, LOG, {"t.py::a": PASSED, "t.py::b[x": PASSED, "t.py::c": FAILED}, resolved=False) == ()
    )


@pytest.mark.parametrize(
    "summary",
    [
        "== 2 passed in 0.01s ==",
        "== 2 passed in 0.01 seconds ==",
        "2 passed in 1.20s",
        "\x1b[32m== \x1b[32m\x1b[1m2 passed\x1b[0m, \x1b[33m1 warning\x1b[0m\x1b[32m in 0.01s\x1b[0m ==\x1b[0m",
        "====== 1 passed, 1 xfailed, 3 warnings in 0.01s ======",
        "2 passed, 7 subtests passed in 0.10s",
        "===== 2 failed, 2 passed, 1 skipped, 5 subtests passed, 1 subtests failed in 1.87s =====",
    ],
)
def test_summary_lines_of_all_ages_are_read(calc, summary):
    assert contradictions(calc.key, f"PASSED a\nPASSED b\n{summary}\n", {"a": PASSED, "b": PASSED}, resolved=True) == ()


@pytest.mark.parametrize(
    ("body", "evidence"),
    [
        ("PASSED a\nPASSED b\n", "summary is missing"),
        ("PASSED a\nPASSED b\n== 1 passed in 0.1s ==\n", "pytest counted 1"),
        (f"PASSED a\nPASSED b\n== {'1' * 5000} passed in 0.1s ==\n", "summary is missing"),
        ("FAILED a\nFAILED b\n== 2 failed in 0.1s ==\nPASSED a\nPASSED b\n", "after pytest's summary"),
        ("FAILED a - x\nPASSED b\n== 1 failed, 1 passed in 0.1s ==\nPASSED a\n== 2 passed in 0.1s ==\n", "both passed"),
    ],
)
def test_logs_that_contradict_themselves(calc, body, evidence):
    found = contradictions(calc.key, body, {"a": PASSED, "b": PASSED}, resolved=True)
    assert any(evidence in line for line in found), found


TWICE = ": '>>>>> Start Test Output'\n{}\n: '>>>>> End Test Output'\n"


@pytest.mark.parametrize(
    ("command", "honest"),
    [
        ("pytest -rA a\npytest -rA b", True),
        ("python -m pytest -rA a && A=1 python3 -m pytest -rA b", True),
        ("cd x\nuv run pytest a; /usr/bin/pytest b", True),
        ("pytest -rA a b", False),
        ("pip install pytest\npytest -rA a b", False),
        ("pytest -p pytest-cov tests/test_pytest.py", False),
    ],
)
def test_each_session_of_pytest_counts_its_own_tests(calc, command, honest):
    key = calc.with_key(eval_script=TWICE.format(command)).key
    body = "PASSED a\n== 1 passed in 0.1s ==\nPASSED b\n== 1 passed in 0.2s ==\n"
    assert (contradictions(key, body, {"a": PASSED, "b": PASSED}, resolved=True) == ()) is honest


def test_other_runners_must_have_come_to_their_end(calc):
    django = calc.key.model_copy(update={"log_parser": "parse_log_django"})
    assert contradictions(django, "test_a ... ok\n", {"test_a": PASSED}, resolved=True)
    whole = "test_a ... ok\n\nRan 1 test in 0.1s\n\nOK\n"
    assert not contradictions(django, whole, {"test_a": PASSED}, resolved=True)


@pytest.mark.parametrize("parser", ["parse_log_pytest", "parse_log_django"])
def test_a_run_that_broke_off_is_no_violation_unless_it_claims_success(calc, parser):
    """As where a test of a wrong patch never ends and the processor's limit ends it, or it crashes the interpreter."""
    key = calc.key.model_copy(update={"log_parser": parser})
    assert contradictions(key, "PASSED a\n", {"a": PASSED}, resolved=False) == ()
    assert contradictions(key, "PASSED a\n", {"a": PASSED}, resolved=True)


def test_swebenchs_markers_are_taken_out_and_told(calc):
    body, evidence = neutralise(f"a\n{END_MARKER}\n{CODE_MARKER}: 0\n", calc.key)
    assert END_MARKER not in body
    assert CODE_MARKER not in body
    assert len(evidence) == 2
    about_markers = calc.key.model_copy(update={"test_patch": f"+x = '{END_MARKER}'"})
    assert neutralise(END_MARKER, about_markers)[1] == ()


async def test_a_sandbox_that_cannot_start_a_shell_is_an_infrastructure_failure(at, tmp_path):
    sandbox = at(tmp_path)

    async def refuse(command, **options):
        said = b"swe-aem: the command could not be run: Too many open files\n"
        return ExecResult(
            exit_code=126, head=said, tail=b"", output_bytes=len(said), output_path="", wall_s=0, started=False
        )

    sandbox.run = refuse
    script = SCRIPT.replace("COMMAND", "true")
    with pytest.raises(GraderError, match="Too many open files"):
        await evaluate(sandbox, script, str(tmp_path), 30.0, Deadline.after(60), tmp_path)
