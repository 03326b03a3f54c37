"""The worker that holds swebench: what it answers, and what happens when it does not."""

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest

from swe_aem.core import TestStatus
from swe_aem.errors import GraderError, HostFailed, Starved
from swe_aem.grading import parser as parser_module
from swe_aem.grading.log_file import LogFile
from swe_aem.grading.parser import ParseFailure, ParseTimeout, SwebenchParser
from swe_aem.tasks import load_tasks

pytestmark = pytest.mark.asyncio(loop_scope="session")

ADD, MUL = "tests/test_calc.py::test_add", "tests/test_calc.py::test_mul"
PASSED, FAILED, MISSING, SKIPPED = (TestStatus(word) for word in ("PASSED", "FAILED", "MISSING", "SKIPPED"))

ECHO = """
import json, sys, time
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if request["op"] == "read":
        %s
    answer = {"begun": True, "complete": False} if request["op"] == "read" else {"script": "x"}
    print(json.dumps(answer), flush=True)
"""


def fake_worker(on_read):
    return SwebenchParser((sys.executable, "-c", ECHO % on_read))


@pytest.fixture
def log(tmp_path):
    """A log file with that output of the tests and that exit code."""

    def log(body, code=0, key=None):
        path = tmp_path / "output.log"
        ended = f"CODE: {code}\n" if code is not None else ""
        path.write_text(f"BEGIN\n+ : START\n{body}\n+ : 'END'\n{ended}", errors="surrogateescape")
        return LogFile(path=path, begin="BEGIN", start="START", end="END", code="CODE")

    return log


@pytest.fixture
def report(parser, log):
    """The report on an output of the tests."""

    async def report(key, body, code):
        return (await parser.read(key, log(body, code))).report

    return report


async def test_all_passed(calc, report):
    found = await report(calc.key, f"PASSED {ADD}\nPASSED {MUL}\n", 0)
    assert found.resolved
    assert found.fail_to_pass == {ADD: PASSED}
    assert found.pass_to_pass == {MUL: PASSED}


async def test_statuses_and_fractions(calc, report):
    found = await report(calc.key, f"FAILED {ADD} - assert 1 == 2\n", 1)
    assert not found.resolved
    assert found.fail_to_pass == {ADD: FAILED}
    assert found.pass_to_pass == {MUL: MISSING}
    assert (found.fail_to_pass_fraction, found.pass_to_pass_fraction) == (0.0, 0.0)


async def test_an_exit_code_that_does_not_go_with_the_results_is_no_result(calc, report):
    assert not (await report(calc.key, f"PASSED {ADD}\nPASSED {MUL}\n", 1)).found


async def test_a_truncated_id_counts_by_its_prefix(calc, report):
    key = calc.key.model_copy(update={"fail_to_pass": ("t.py::f[a",), "pass_to_pass": ()})
    found = await report(key, "PASSED t.py::f[a-b]\n", 0)
    assert found.resolved
    assert found.fail_to_pass == {"t.py::f[a": PASSED}


async def test_fail_only_takes_silence_for_success(calc, report):
    key = calc.key.model_copy(
        update={
            "fail_to_pass": ("a",),
            "pass_to_pass": (),
            "eval_type": "fail_only",
            "log_parser": "parse_log_chart_js",
        }
    )
    assert (await report(key, "TOTAL: 9 SUCCESS\n", 0)).fail_to_pass == {"a": PASSED}
    assert not (await report(key, "no browser\n", 1)).found


async def test_the_script_is_swebenchs(parser, calc):
    script = await parser.script(calc.key)
    assert script.startswith("#!/bin/bash\nset -uxo pipefail\n")
    assert "SWEBENCH_TEST_EXIT_CODE=$?" in script


async def test_check_names_every_problem(parser, calc):
    assert await parser.check(calc.key) == ()
    broken = calc.key.model_copy(
        update={"log_parser": "parse_log_nothing", "eval_type": "guess", "fail_to_pass": (), "eval_script": "true"}
    )
    problems = await parser.check(broken)
    assert len(problems) == 4
    assert "parse_log_nothing" in problems[0]
    assert "guess" in problems[1]
    assert "FAIL_TO_PASS" in problems[2]
    assert "markers" in problems[3]


async def test_every_real_row_has_a_parser_and_an_evaluation_script(parser, dataset_rows):
    checked = 0
    for file in sorted(dataset_rows.glob("*.jsonl")):
        for record in load_tasks(str(file)).records:
            assert await parser.check(record.key) == (), record.task.id
            checked += 1
    assert checked >= 50


async def test_an_error_of_swebench_is_a_grader_failure_and_the_worker_continues(parser, calc, log):
    with pytest.raises(GraderError, match="parse_log_nothing"):
        await parser.read(calc.key.model_copy(update={"log_parser": "parse_log_nothing"}), log("x"))
    assert await parser.script(calc.key)


async def test_a_worker_that_dies_is_our_fault_and_is_started_again(calc, log):
    async with fake_worker("print('last words', file=sys.stderr); sys.exit(3)") as parser:
        with pytest.raises(GraderError, match="last words"):
            await parser.read(calc.key, log("x"))
        assert await parser.script(calc.key) == "x"


async def test_an_answer_that_is_no_json_is_our_fault(calc, log):
    async with fake_worker("print('{rubbish', flush=True)") as parser:
        with pytest.raises(GraderError, match="rubbish"):
            await parser.read(calc.key, log("x"))
        assert await parser.script(calc.key) == "x"


async def test_a_worker_that_hangs_up_while_it_is_written_to_is_our_fault(calc):
    deaf = "import json, os; print(json.dumps({'ready': True}), flush=True); os.close(0); import time; time.sleep(5)"
    async with SwebenchParser((sys.executable, "-c", deaf)) as parser:
        with pytest.raises(GraderError, match="ended"):
            await parser.script(calc.key.model_copy(update={"eval_script": "x" * (4 << 20)}))


@pytest.mark.parametrize("body", ["FAIL:\n", "test_a ... ok\nERROR:\n"])
async def test_a_log_that_trips_swebenchs_parser_is_told_apart(calc, body, report):
    with pytest.raises(ParseFailure, match="parse_log_django failed on the log of"):
        await report(calc.key.model_copy(update={"log_parser": "parse_log_django"}), body, 0)


async def test_a_status_that_swebench_does_not_know_is_a_failure(calc, report):
    found = await report(calc.key, f"PASSEDX {ADD}\nPASSED {MUL}\n", 0)
    assert found.fail_to_pass == {ADD: FAILED}
    assert found.pass_to_pass == {MUL: PASSED}
    assert not found.resolved


async def test_a_worker_that_was_killed_between_requests_is_started_again(calc):
    async with fake_worker("pass") as parser:
        await parser.script(calc.key)
        os.kill(parser.pids[0], signal.SIGKILL)
        await asyncio.sleep(0.1)
        assert await parser.script(calc.key) == "x"


async def test_a_log_that_takes_too_long_is_told_apart(calc, log, monkeypatch):
    busy = "import signal; signal.setitimer(signal.ITIMER_PROF, request['cpu_s'])\n        while True: pass"
    async with fake_worker(busy) as parser:
        monkeypatch.setattr(parser_module, "READ_CPU_S", 0.3)
        with pytest.raises(ParseTimeout, match="processor time"):
            await parser.read(calc.key, log("x"))
        assert await parser.script(calc.key) == "x"


async def test_the_worker_itself_ends_at_its_limit(calc, log, monkeypatch):
    """A pattern of swebench's needs the square of the length of each line."""
    key = calc.key.model_copy(update={"log_parser": "parse_log_sympy"})
    async with SwebenchParser() as parser:
        monkeypatch.setattr(parser_module, "READ_CPU_S", 1.0)
        with pytest.raises(ParseTimeout):
            await parser.read(key, log(("x + " * 1000 + "\n") * 2000))
        monkeypatch.undo()
        assert await parser.script(key)


async def test_a_worker_without_processor_is_no_verdict(calc, log, monkeypatch):
    """Case: the host gave the parser nothing for longer than its limit, and the right fix became unresolved."""
    async with fake_worker("pass") as parser:
        await parser.script(calc.key)
        (pid,) = parser.pids
        os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr(parser_module, "READ_CPU_S", 0.05)
        with pytest.raises(Starved):
            await parser.read(calc.key, log("x"))
        assert await parser.script(calc.key) == "x"


async def test_a_worker_that_gets_its_processor_late_answers_all_the_same(calc, log, monkeypatch):
    async with fake_worker("pass") as parser:
        await parser.script(calc.key)
        (pid,) = parser.pids
        os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr(parser_module, "READ_CPU_S", 1.0)
        reading = asyncio.create_task(parser.read(calc.key, log("x")))
        await asyncio.sleep(1.5)
        assert not reading.done()
        os.kill(pid, signal.SIGCONT)
        assert (await reading).begun


async def test_a_slow_log_makes_nobody_wait(calc, log, monkeypatch):
    monkeypatch.setattr(parser_module, "PATIENCE_S", 0.1)
    async with fake_worker("time.sleep(60)") as parser:
        await parser.script(calc.key)
        slow = asyncio.create_task(parser.read(calc.key, log("x")))
        await asyncio.sleep(0.1)
        assert await parser.script(calc.key) == "x"
        assert not slow.done()
        assert len(parser.pids) == 2
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)


async def test_a_request_that_is_cancelled_leaves_no_answer_behind(calc, log):
    async with fake_worker("time.sleep(0.3)") as parser:
        await parser.script(calc.key)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(parser.read(calc.key, log("x")), 0.05)
        assert await parser.script(calc.key) == "x"


async def test_a_worker_that_cannot_start_is_our_fault(calc):
    async with SwebenchParser((sys.executable, "-c", "raise SystemExit('no swebench here')")) as parser:
        with pytest.raises(GraderError, match="no swebench here"):
            await parser.script(calc.key)


async def test_no_process_is_left(calc):
    async with fake_worker("pass") as parser:
        await parser.script(calc.key)
        (pid,) = parser.pids
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_leaving_early_does_not_wait_for_the_start(calc):
    started = time.monotonic()
    async with SwebenchParser((sys.executable, "-c", "import time; time.sleep(60)")):
        await asyncio.sleep(0.05)
    assert time.monotonic() - started < 5


@pytest.mark.slow
async def test_the_worker_speaks_json_only_on_its_standard_output():
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "swe_aem.grading.worker",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    output, _ = await process.communicate(b'{"op": "prepare", "key": {}, "cpu_s": 60}\n')
    ready, answer = (json.loads(line) for line in output.splitlines())
    assert ready == {"ready": True}
    assert "ValidationError" in answer["error"]
    assert process.returncode == 0


async def test_a_host_that_cannot_start_the_worker_is_an_infrastructure_failure(calc, tmp_path, monkeypatch):
    async with SwebenchParser() as parser:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
        with pytest.raises(HostFailed, match="does not start"):
            await parser.script(calc.key)


async def test_a_log_that_this_host_cannot_copy_is_no_failure_of_the_log(calc, log, parser):
    gone = log("x").model_copy(update={"path": Path("/nonexistent/output.log")})
    with pytest.raises(HostFailed, match="No such file"):
        await parser.read(calc.key, gone)
