"""The worker that holds swebench: what it answers, and what happens when it does not."""

import asyncio
import json
import os
import signal
import sys
import time

import pytest

from swe_aem.core import TestStatus
from swe_aem.errors import GraderError
from swe_aem.grading import parser as parser_module
from swe_aem.grading.parser import ParseTimeout, SwebenchParser
from swe_aem.tasks import load_tasks

pytestmark = pytest.mark.asyncio(loop_scope="session")

ADD, MUL = "tests/test_calc.py::test_add", "tests/test_calc.py::test_mul"
PASSED, FAILED, MISSING, SKIPPED = (TestStatus(word) for word in ("PASSED", "FAILED", "MISSING", "SKIPPED"))

ECHO = """
import json, sys, time
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if request["op"] == "report":
        %s
    print(json.dumps({"script": "x", "found": False}), flush=True)
"""


def fake_worker(on_report):
    return SwebenchParser((sys.executable, "-c", ECHO % on_report))


async def test_all_passed(parser, calc):
    report = await parser.report(calc.key, f"PASSED {ADD}\nPASSED {MUL}\n", 0)
    assert report.resolved
    assert report.fail_to_pass == {ADD: PASSED}
    assert report.pass_to_pass == {MUL: PASSED}


async def test_statuses_and_fractions(parser, calc):
    report = await parser.report(calc.key, f"FAILED {ADD} - assert 1 == 2\n", 1)
    assert not report.resolved
    assert report.fail_to_pass == {ADD: FAILED}
    assert report.pass_to_pass == {MUL: MISSING}
    assert (report.fail_to_pass_fraction, report.pass_to_pass_fraction) == (0.0, 0.0)


async def test_an_exit_code_that_does_not_go_with_the_results_is_no_result(parser, calc):
    assert not (await parser.report(calc.key, f"PASSED {ADD}\nPASSED {MUL}\n", 1)).found


async def test_a_truncated_id_counts_by_its_prefix(parser, calc):
    key = calc.key.model_copy(update={"fail_to_pass": ("t.py::f[a",), "pass_to_pass": ()})
    report = await parser.report(key, "PASSED t.py::f[a-b]\n", 0)
    assert report.resolved
    assert report.fail_to_pass == {"t.py::f[a": PASSED}


async def test_fail_only_takes_silence_for_success(parser, calc):
    key = calc.key.model_copy(
        update={
            "fail_to_pass": ("a",),
            "pass_to_pass": (),
            "eval_type": "fail_only",
            "log_parser": "parse_log_chart_js",
        }
    )
    assert (await parser.report(key, "TOTAL: 9 SUCCESS\n", 0)).fail_to_pass == {"a": PASSED}
    assert not (await parser.report(key, "no browser\n", 1)).found


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


async def test_an_error_of_swebench_is_a_grader_failure_and_the_worker_continues(parser, calc):
    with pytest.raises(GraderError, match="parse_log_nothing"):
        await parser.report(calc.key.model_copy(update={"log_parser": "parse_log_nothing"}), "x", 0)
    assert await parser.script(calc.key)


async def test_a_worker_that_dies_is_our_fault_and_is_started_again(calc):
    async with fake_worker("print('last words', file=sys.stderr); sys.exit(3)") as parser:
        with pytest.raises(GraderError, match="last words"):
            await parser.report(calc.key, "x", 0)
        assert await parser.script(calc.key) == "x"


async def test_an_answer_that_is_no_json_is_our_fault(calc):
    async with fake_worker("print('{rubbish', flush=True)") as parser:
        with pytest.raises(GraderError, match="rubbish"):
            await parser.report(calc.key, "x", 0)
        assert await parser.script(calc.key) == "x"


async def test_a_worker_that_hangs_up_while_it_is_written_to_is_our_fault(calc):
    deaf = "import json, os; print(json.dumps({'ready': True}), flush=True); os.close(0); import time; time.sleep(5)"
    async with SwebenchParser((sys.executable, "-c", deaf)) as parser:
        with pytest.raises(GraderError, match="ended"):
            await parser.script(calc.key.model_copy(update={"eval_script": "x" * (4 << 20)}))


@pytest.mark.parametrize("body", ["FAIL:\n", "test_a ... ok\nERROR:\n"])
async def test_a_log_that_trips_swebenchs_parser_has_no_results(parser, calc, body):
    report = await parser.report(calc.key.model_copy(update={"log_parser": "parse_log_django"}), body, 0)
    assert not report.found


async def test_a_status_that_swebench_does_not_know_is_a_failure(parser, calc):
    report = await parser.report(calc.key, f"PASSEDX {ADD}\nPASSED {MUL}\n", 0)
    assert report.fail_to_pass == {ADD: FAILED}
    assert report.pass_to_pass == {MUL: PASSED}
    assert not report.resolved


async def test_a_worker_that_was_killed_between_requests_is_started_again(calc):
    async with fake_worker("pass") as parser:
        await parser.script(calc.key)
        assert parser._process is not None
        os.kill(parser._process.pid, signal.SIGKILL)
        await asyncio.sleep(0.1)
        assert await parser.script(calc.key) == "x"


async def test_a_log_that_takes_too_long_is_told_apart(calc, monkeypatch):
    async with fake_worker("time.sleep(60)") as parser:
        await parser.script(calc.key)
        monkeypatch.setattr(parser_module, "REPORT_TIMEOUT_S", 0.3)
        with pytest.raises(ParseTimeout):
            await parser.report(calc.key, "x", 0)
        monkeypatch.undo()
        assert await parser.script(calc.key) == "x"


async def test_a_request_that_is_cancelled_leaves_no_answer_behind(calc):
    async with fake_worker("time.sleep(0.3)") as parser:
        await parser.script(calc.key)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(parser.report(calc.key, "x", 0), 0.05)
        assert await parser.script(calc.key) == "x"


async def test_a_worker_that_cannot_start_is_our_fault(calc):
    async with SwebenchParser((sys.executable, "-c", "raise SystemExit('no swebench here')")) as parser:
        with pytest.raises(GraderError, match="no swebench here"):
            await parser.script(calc.key)


async def test_no_process_is_left(calc):
    async with fake_worker("pass") as parser:
        await parser.script(calc.key)
        assert parser._process is not None
        pid = parser._process.pid
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
    output, _ = await process.communicate(b'{"op": "prepare", "row": {}}\n')
    ready, answer = (json.loads(line) for line in output.splitlines())
    assert ready == {"ready": True}
    assert "KeyError" in answer["error"]
    assert process.returncode == 0
