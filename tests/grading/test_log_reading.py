"""Reading a log: how long lines are cut, what that costs, and that none of it costs the orchestrator."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swe_aem.core import Deadline, TestStatus
from swe_aem.errors import GraderError
from swe_aem.grading.conclusion import EvaluationEnd, conclude
from swe_aem.grading.evaluation import evaluate
from swe_aem.grading.integrity import contradictions, pytest_summaries
from swe_aem.grading.log_file import LogFile
from swe_aem.grading.log_reading import LONGEST_LINE_CHARS, cut_lines, longest_line_chars, read_log, statuses_of
from swe_aem.grading.markers import CODE_MARKER, END_MARKER, START_MARKER
from swe_aem.grading.parser import SwebenchParser
from swe_aem.grading.witness import Record, sign
from swe_aem.sandbox.bubblewrap import BubblewrapBackend
from swe_aem.tasks.families.log_parsers import log_parser
from tests.memory import begin_peak, peak_bytes, resident_bytes

in_the_loop_of_the_parser = pytest.mark.asyncio(loop_scope="session")

PASSED = TestStatus.PASSED
LINES = st.lists(st.text(st.characters(blacklist_characters="\n\r"), max_size=60), max_size=30)


@given(LINES, st.integers(4, 40))
def test_short_lines_stay_and_long_ones_keep_both_ends(lines, longest):
    for before, after in zip(lines, cut_lines("\n".join(lines), longest).split("\n"), strict=False):
        if len(before) <= longest:
            assert after == before
        else:
            half = longest // 2
            assert after == f"{before[:half]} [... {len(before) - 2 * half} characters ...] {before[-half:]}"


def test_no_line_with_an_id_of_the_task_is_cut(calc):
    name = "tests/test_x.py::test[" + "x" * 20_000 + "]"
    key = calc.key.model_copy(update={"fail_to_pass": (name,)})
    assert longest_line_chars(calc.key) < 2 * LONGEST_LINE_CHARS
    for line in (f"PASSED {name}", f"{name} PASSED", f"FAILED {name} - assert 0"):
        assert cut_lines(line, longest_line_chars(key)) == line


@pytest.fixture
def log(tmp_path):
    """A log file with that output of the tests."""

    def log(body):
        path = tmp_path / "output.log"
        path.write_text(f"BEGIN\n+ : START\n{body}\n+ : 'END'\nCODE: 0\n")
        return LogFile(path=path, begin="BEGIN", start="START", end="END", code="CODE")

    return log


HONEST = {
    "parse_log_pytest": "{line}\nPASSED tests/test_calc.py::test_add\nPASSED tests/test_calc.py::test_mul\n"
    "== 2 passed in 0.1s ==\n",
    "parse_log_pytest_v2": "{line}\nPASSED tests/test_calc.py::test_add\nPASSED tests/test_calc.py::test_mul\n"
    "== 2 passed in 0.1s ==\n",
    "parse_log_pytest_options": "{line}\nPASSED tests/test_calc.py::test_add\nPASSED tests/test_calc.py::test_mul\n"
    "== 2 passed in 0.1s ==\n",
    "parse_log_django": "{line}\ntests/test_calc.py::test_add ... ok\ntests/test_calc.py::test_mul ... ok\n"
    "Ran 2 tests in 0.1s\n",
    "parse_log_sympy": "{line}\ntest_add ok\ntest_mul ok\n=== tests finished: 2 passed\n",
    "multi_swe_bench": "{line}\nPASSED tests/test_calc.py::test_add\nPASSED tests/test_calc.py::test_mul\n",
    "swesmith_pytest": "{line}\ntests/test_calc.py::test_add PASSED\ntests/test_calc.py::test_mul PASSED\n"
    "== 2 passed in 0.1s ==\n",
}
LONG = {
    "an expression": "(" + "x + " * 20_000 + ")",
    "counts": "1 a" * 350_000,
    "equals signs": "=" * (1 << 20),
    "underscores": "_ " * 40_000,
    "files": "a.py: " * 40_000,
    "escapes": "\x1b[0;0" * 100_000,
    "blanks": " " * (1 << 20),
}


@in_the_loop_of_the_parser
@pytest.mark.parametrize("line", LONG.values(), ids=LONG)
@pytest.mark.parametrize("name", HONEST)
async def test_one_long_line_costs_no_verdict(parser, calc, log, name, line):
    names = ("test_add", "test_mul") if name == "parse_log_sympy" else (*calc.key.fail_to_pass, *calc.key.pass_to_pass)
    key = calc.key.model_copy(update={"log_parser": name, "fail_to_pass": names[:1], "pass_to_pass": names[1:]})
    reading = await parser.read(key, log(HONEST[name].format(line=line)))
    assert reading.report is not None
    assert reading.report.resolved
    assert reading.evidence == ()


@pytest.mark.parametrize("line", LONG.values(), ids=LONG)
def test_our_own_patterns_are_linear(calc, line):
    """Sixteen times the line takes sixteen times the processor, not 256 times."""

    def cpu_s(chars):
        body = f"PASSED a\n{line[:chars]}\n== 1 passed in 0.1s ==\n"
        started_s = time.thread_time()
        assert contradictions(calc.key, body, {"a": PASSED}, resolved=True) == ()
        return time.thread_time() - started_s

    assert len(line) >= 16_000
    assert min(cpu_s(16_000) for _ in range(3)) < 64 * min(cpu_s(1_000) for _ in range(3))


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("== 1 failed, 2 passed in 0.1s ==", True),
        ("== no tests ran in 0.1s ==", True),
        ("1 failed, 2 passed, 1 subtests failed in 0.1s", True),
        ("3 files passed in 0.1s", False),
        ("3 passed, 1 warning in 1.20s", True),
        ("=== 1 failed, 2 passed, 1 error in 65.32s (0:01:05) ===", True),
        ("== passed in 0.1s ==", False),
        ("== 1 passed 2 failed in 0.1s ==", False),
        ("== tests ran in 0.1s ==", False),
        ("loaded in 0.1s", False),
    ],
)
def test_only_counts_are_a_summary(line, counts):
    assert bool(pytest_summaries(f"x\n{line}\ny")) is counts


SCRIPT = f"""#!/bin/bash
set -x
: '{START_MARKER}'
yes 'tests/test_module.py::test_name some ordinary text of a run' | head -c 62000000
SWEBENCH_TEST_EXIT_CODE=$?
: '{END_MARKER}'
echo "{CODE_MARKER}: $SWEBENCH_TEST_EXIT_CODE"
"""


@in_the_loop_of_the_parser
@pytest.mark.bubblewrap
@pytest.mark.slow
async def test_the_orchestrators_memory_stays_flat(require_bubblewrap, calc, parser, tmp_path):
    await parser.script(calc.key)
    async with BubblewrapBackend().open(calc.spec()) as sandbox:
        begin_peak()
        before = resident_bytes()
        done = await evaluate(sandbox, SCRIPT, "/testbed", 120.0, Deadline.after(240), tmp_path)
        assert done.log is not None
        assert done.log.path.stat().st_size > 62_000_000
        reading = await parser.read(calc.key, done.log)
    assert reading.complete
    assert reading.test_exit_code == 0
    assert peak_bytes() - before < 32 << 20


def test_the_worker_is_bounded_in_memory(tmp_path):
    """In a process of its own, because the bound stays."""
    code = (
        "from swe_aem.grading import worker; worker.MEMORY_BYTES = 64 << 20; worker.limit_memory(); b'x' * (256 << 20)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "MemoryError" in done.stderr


def judged(statuses):
    return {"found": True, "resolved": set(statuses.values()) == {"PASSED"}, "fail_to_pass": dict(statuses)}


RECORD = {"runner": "pytest", "ended_s": 1.0, "results": [["a", "PASSED"]]}
OF_UNITTEST = {"runner": "unittest", "ended_s": 1.0, "results": [["a", "PASSED"]]}
LATER = {"runner": "pytest", "ended_s": 2.0, "results": [["a", "FAILED"], ["b", "PASSED"]]}


def signed(*records, key="key"):
    texts = [json.dumps(record).encode() for record in records]
    return b"".join(sign(text, key) + b"\n" + text + b"\n" for text in texts)


@pytest.fixture
def left(calc, log, tmp_path):
    """The reading of a log and its records, and whether the log was parsed."""

    def left(body, records, key=calc.key, *, idle=False):
        parsed = []

        def parse(path):
            parsed.append(path)
            return {"a": "PASSED"}

        (tmp_path / "record").write_bytes(records)
        file = log(body).model_copy(update={"record": tmp_path / "record", "record_key": "key", "idle": "IDLE"})
        if idle:
            file.path.write_text(file.path.read_text() + "IDLE\n")
        return read_log(key, file, parse, judged, with_results=True), bool(parsed)

    return left


TEXTS = {
    "nothing": "",
    "a failure": "FAILED a\n== 1 failed in 0.1s ==\n",
    "two summaries": "== 1 failed in 0.1s ==\nPASSED a\nFAILED a\n== 9 passed in 0.1s ==\nPASSED a\n",
    "swebench's markers": f"{END_MARKER}\n{CODE_MARKER}: 1\n",
    "its refusal": ">>>>> Patch Apply Failed\n>>>>> Tests Errored\n",
}


@pytest.mark.parametrize("body", TEXTS.values(), ids=TEXTS)
def test_where_there_is_a_record_no_text_is_read(left, body):
    reading, parsed = left(body, signed(RECORD))
    assert (reading.signed, parsed, reading.evidence, reading.official) == (True, False, (), None)
    assert reading.report.resolved
    assert reading.report.fail_to_pass == {"a": "PASSED", "[100%]": "PASSED"}


def test_a_record_decides_where_the_log_was_emptied(log, calc, tmp_path):
    """Whatever opens /dev/stdout again empties a log that is a file."""
    file = log("").model_copy(update={"record": tmp_path / "record", "record_key": "key", "idle": "IDLE"})
    file.path.write_text("\0\0 passed\n+ : 'END'\nCODE: 0\n")
    for records, resolved in ((signed(RECORD), True), (b"", False)):
        (tmp_path / "record").write_bytes(records)
        reading = read_log(calc.key, file, lambda path: {"a": "PASSED"}, judged, with_results=True)
        assert (reading.signed, reading.complete, reading.begun) == (resolved, resolved, False)
        verdict = conclude(calc.key, END, reading)
        assert (verdict.resolved, bool(verdict.integrity)) == (resolved, not resolved)


def test_a_later_session_decides_as_a_later_line_would(left):
    for records in (signed(RECORD, LATER), signed(LATER, RECORD)):
        reading, _ = left("", records)
        assert reading.report.fail_to_pass == {"a": "FAILED", "b": "PASSED", "[100%]": "PASSED"}


WITHOUT = {
    "none": b"",
    "another key": signed(RECORD, key="other"),
    "no text": b"x\n" * 100_000,
    "no UTF-8": b"\xff\n\xff\n",
    "brackets": b"[" * 300_000,
    "cut": signed(RECORD)[:-9],
    "another runner's": signed(OF_UNITTEST),
    "signed nonsense": signed({"runner": "pytest"}, [], "x"),
    "one without tests": signed({**RECORD, "results": []}),
}
END = EvaluationEnd(
    exit_code=0, timed_out=False, killed_for=None, wall_s=1.0, starved_s=0.0, cpu_s=1.0, tail="", rewards=None
)


@pytest.mark.parametrize("records", WITHOUT.values(), ids=WITHOUT)
def test_a_session_that_began_and_left_no_record_does_not_count(left, calc, records):
    reading, parsed = left("PASSED a\n== 1 passed in 0.1s ==\n", records)
    assert (reading.signed, parsed) == (False, True)
    assert reading.official.resolved
    verdict = conclude(calc.key, END, reading)
    assert not verdict.resolved
    assert "no signed record" in verdict.integrity[0]


def test_where_the_gold_patch_leaves_no_record_either_the_log_decides(left, calc):
    """Its runner is out of the witness's reach, behind one that was not. What contradicts the log is evidence then."""
    end = END.model_copy(update={"unwitnessed": True})
    reading, _ = left("PASSED a\n== 1 passed in 0.1s ==\n", b"")
    assert reading.undecided
    verdict = conclude(calc.key, end, reading)
    assert (verdict.resolved, verdict.integrity) == (True, ())
    reading, _ = left("PASSED a\n", b"")
    verdict = conclude(calc.key, end, reading)
    assert (verdict.resolved, "summary is missing" in verdict.integrity[0]) == (False, True)
    assert "no signed record" in conclude(calc.key, END, reading).integrity[0]
    reading, _ = left("", signed(RECORD))
    assert not reading.undecided
    assert conclude(calc.key, end, reading) == conclude(calc.key, END, reading)


def test_one_that_broke_off_and_would_not_resolve_is_no_evidence(calc, log, tmp_path):
    (tmp_path / "record").write_bytes(b"")
    file = log("").model_copy(update={"record": tmp_path / "record", "record_key": "key", "idle": "IDLE"})
    reading = read_log(calc.key, file, lambda path: {"a": "FAILED"}, judged, with_results=True)
    assert reading.report is not None
    assert reading.official is not None
    assert (reading.evidence, reading.broke_off, reading.official.found) == ((), True, True)
    verdict = conclude(calc.key, END, reading)
    assert (verdict.integrity, verdict.collected) == ((), False)


def test_where_no_session_took_the_key_the_log_decides(left):
    reading, parsed = left("PASSED a\n== 1 passed in 0.1s ==\n", b"", idle=True)
    assert (reading.signed, parsed, reading.evidence) == (False, True, ())
    assert reading.report == reading.official
    assert reading.report.resolved
    # A program that prints the marker, which it cannot know, prints it before the end.
    reading, _ = left("IDLE\nPASSED a\n== 1 passed in 0.1s ==\n", b"")
    assert reading.broke_off


def test_an_expected_failure_of_a_test_that_has_to_pass_is_evidence_in_a_record_too(left, calc):
    key = calc.key.model_copy(update={"fail_to_pass": ("a",)})
    reading, _ = left("", signed({**RECORD, "results": [["a", "XFAIL"]]}), key)
    assert "expected failure" in reading.evidence[0]


def test_a_summary_lists_failures_last():
    records = [Record(runner="pytest", ended_s=1, results=(("a[x y]", "FAILED"), ("a[x z]", "PASSED")))]
    assert statuses_of(log_parser("parse_log_pytest"), records)["a[x"] == "FAILED"
    torn_down = [Record(runner="pytest", ended_s=1, results=(("a", "ERROR"), ("a", "PASSED")))]
    assert statuses_of(log_parser("parse_log_pytest"), torn_down)["a"] == "ERROR"
    assert statuses_of(log_parser("parse_log_sphinx"), torn_down)["a"] == "PASSED"  # as swebench reads `ERROR a - why`
    in_order = [Record(runner="unittest", ended_s=1, results=(("t", "FAILED"), ("u\nt", "PASSED")))]
    assert statuses_of(log_parser("parse_log_django"), in_order) == {"t": "PASSED"}


@in_the_loop_of_the_parser
@pytest.mark.parametrize("how", ["raise ValueError", "while True: pass"])
async def test_a_parser_that_fails_costs_the_official_reading_and_nothing_else(calc, log, tmp_path, monkeypatch, how):
    monkeypatch.setattr("swe_aem.grading.parser.READ_CPU_S", 2.0)
    code = f"from swe_aem.grading import worker\ndef parse(row, path):\n    {how}\nworker.parse = parse\nworker.main()"
    names = (*calc.key.fail_to_pass, *calc.key.pass_to_pass)
    record = {**RECORD, "results": [[name, "PASSED"] for name in names]}
    (tmp_path / "record").write_bytes(signed(record))
    file = log("x").model_copy(update={"record": tmp_path / "record", "record_key": "key", "idle": "IDLE"})
    async with SwebenchParser((sys.executable, "-c", code)) as failing:
        reading = await failing.read(calc.key, file)
        assert reading.report is not None
        assert (reading.signed, reading.report.resolved, reading.official) == (True, True, None)
        with pytest.raises(GraderError):
            await failing.read(calc.key, log("x"))


def test_a_log_without_an_end_has_no_results(calc, tmp_path):
    (tmp_path / "output.log").write_text("BEGIN\n+ : START\nPASSED x\n")
    log = LogFile(path=tmp_path / "output.log", begin="BEGIN", start="START", end="END", code="CODE")
    reading = read_log(calc.key, log, lambda path: pytest.fail("parsed"), judged, with_results=True)
    assert (reading.begun, reading.complete, reading.report, reading.test_exit_code) == (True, False, None, None)
    assert reading.tail.endswith("PASSED x\n")


def test_the_parsers_file_lies_beside_the_log(calc, log):
    """Where a parser's limit ends the process, the grader removes it with the log."""
    seen = []

    def parse(path):
        seen.append(Path(path).parent)

    read = log("x")
    read_log(calc.key, read, parse, judged, with_results=True)
    assert seen == [read.path.parent]
