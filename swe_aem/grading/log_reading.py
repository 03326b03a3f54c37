"""Reads what an evaluation left: the runner's signed record, which decides, or its log, and looks for forgeries.

Runs in the worker process, under its limits. Everything here is one pass over the log, or over its lines.
"""

import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from swe_aem.core import AnswerKey
from swe_aem.grading.eval_types import eval_type
from swe_aem.grading.integrity import contradictions, excused, neutralise
from swe_aem.grading.log_file import LOG_TAIL_CHARS, EvaluationReport, LogFile, LogReading
from swe_aem.grading.markers import CODE_MARKER, END_MARKER, START_MARKER
from swe_aem.grading.witness import Record, read_records
from swe_aem.tasks.families.log_parsers import LogParser, log_parser

LONGEST_LINE_CHARS = 4096
"""Longer lines are cut in the middle: some parsers need time that grows with the square of a line's length, and what
they look for stands at its ends. Never shorter than the longest test id, for those are in lines too."""

Parse = Callable[[str], dict[str, str] | None]
"""Reads the status of each test from the file with that name, which has swebench's markers around the output of the
tests; None if the log shows no run that can be believed."""
Judge = Callable[[Mapping[str, str]], dict[str, Any]]
"""An `EvaluationReport` of the status of each test, by the rule of the task's eval type."""

_SUMMARY_ORDER = ("PASSED", "SKIPPED", "XFAIL", "XPASS", "ERROR", "FAILED")
"""The order in which pytest's summary lists tests: of several under one name the last decides."""


def witnessed(key: AnswerKey) -> bool:
    """Do signed records of the runner decide about the task?"""
    return eval_type(key.eval_type).records and log_parser(key.log_parser).test_name is not None


def read_log(key: AnswerKey, log: LogFile, parse: Parse, judge: Judge, *, with_results: bool) -> LogReading:
    """What an evaluation left; `with_results` also reads the results of its tests, where it came to their end.

    Where there are signed records of tests they decide, and the log is not parsed. It is where no session took the
    witness's key, and where one did that left no record of a test: it broke off, or the session of the tests was
    another one, out of the witness's reach. What then counts, `conclude` says.
    """
    text = read_text(log)
    body, code = output_of_tests(text, log)
    reading = LogReading(
        begun=log.begin in text, complete=body is not None, test_exit_code=code, tail=text[-LOG_TAIL_CHARS:]
    )
    if log.end not in text or not with_results or eval_type(key.eval_type).results != "log":
        return reading
    records = _records(key, log)
    has_tests = any(record.results for record in records)
    if has_tests or (records and body is None):  # also where something opened /dev/stdout again, which empties the log
        report = EvaluationReport.model_validate(judge(statuses_of(log_parser(key.log_parser), records)))
        update = {"report": report, "signed": True, "complete": True, "evidence": excused(key, report.statuses)}
        return reading.model_copy(update=update)
    if body is None:
        return reading
    is_idle = log.record_key is None or bool(re.search(rf"^{log.idle}$", text.rpartition(log.end)[2], re.MULTILINE))
    del text
    report, body, evidence = _parsed(key, body, code, parse, judge, log.path.parent)
    update = {"report": report, "official": report}
    doubts = contradictions(key, body, report.statuses, resolved=report.resolved)
    if witnessed(key) and not is_idle:
        return reading.model_copy(update={**update, "broke_off": True, "evidence": evidence, "doubts": doubts})
    return reading.model_copy(update={**update, "evidence": evidence + doubts})


def read_official(key: AnswerKey, log: LogFile, parse: Parse, judge: Judge) -> EvaluationReport | None:
    """What swebench's parser and rule say of a log, whatever records there are; None where it is not complete."""
    body, code = output_of_tests(read_text(log), log)
    return None if body is None else _parsed(key, body, code, parse, judge, log.path.parent)[0]


def statuses_of(parser: LogParser, records: list[Record]) -> dict[str, str]:
    """The status of each test by the parser's name for it. A later session's counts, as a later line of a log would."""
    statuses: dict[str, str] = {}
    name_of = parser.test_name
    for record in records:
        results = record.results
        if record.runner == "pytest":
            results = tuple(sorted(results, key=lambda result: _rank(result[1])))
        for test, status in results:
            name = name_of(test) if name_of is not None else None
            if name is not None and status in parser.statuses:
                statuses[name] = status
    return {**dict.fromkeys(parser.no_tests, "PASSED"), **statuses} if statuses else {}


def _rank(status: str) -> int:
    return _SUMMARY_ORDER.index(status) if status in _SUMMARY_ORDER else len(_SUMMARY_ORDER)


def _records(key: AnswerKey, log: LogFile) -> list[Record]:
    """The records of the sessions of the task's runner."""
    if log.record_key is None or log.record is None or not witnessed(key):
        return []
    runner = log_parser(key.log_parser).runner
    return [record for record in read_records(log.record.read_bytes(), log.record_key) if record.runner == runner]


def _parsed(
    key: AnswerKey, body: str, code: int | None, parse: Parse, judge: Judge, directory: Path
) -> tuple[EvaluationReport, str, tuple[str, ...]]:
    """The report on the output of the tests, that output as the parser gets it, and evidence for markers in it."""
    body, evidence = neutralise(body, key)
    if not log_parser(key.log_parser).whole_lines:
        body = cut_lines(body, longest_line_chars(key))
    return _report(body, code, parse, judge, directory), body, evidence


def read_text(log: LogFile) -> str:
    """The whole log. `\\r` and `\\r\\n` become `\\n`, as in swebench's reading of it."""
    with log.path.open(encoding="utf-8", errors="replace") as file:
        return file.read()


def output_of_tests(text: str, log: LogFile) -> tuple[str | None, int | None]:
    """Output of the tests, None if the script did not come to their start or end, and their command's exit code."""
    _, _, rest = text.partition(log.start)
    body, ended, after = rest.partition(log.end)
    if not ended:
        return None, None
    # Under `set -x` the line of the end marker begins with a trace prefix, which is no output of the tests.
    # Only the end is searched: the tests wrote the rest, and could have made it slow to search.
    body = body[:-100] + re.sub(r"\n?\++ (?::|echo) ['\"]?\Z", "\n", body[-100:])
    code = re.search(rf"^{log.code}: (\d+)$", after, re.MULTILINE)
    return body, int(code[1]) if code else None


def longest_line_chars(key: AnswerKey) -> int:
    """How long a line of the task's logs may be without being cut."""
    return LONGEST_LINE_CHARS + 2 * max(map(len, (*key.fail_to_pass, *key.pass_to_pass, *key.expected)), default=0)


def cut_lines(text: str, longest: int) -> str:
    """The text with the middle of lines above `longest` characters left out."""
    lines = text.split("\n")
    if max(map(len, lines)) <= longest:
        return text
    half = longest // 2
    return "\n".join(
        line if len(line) <= longest else f"{line[:half]} [... {len(line) - 2 * half} characters ...] {line[-half:]}"
        for line in lines
    )


def _report(body: str, test_exit_code: int | None, parse: Parse, judge: Judge, directory: Path) -> EvaluationReport:
    """Results of the tests, by a parser that wants a file with swebench's own markers.

    The file lies in `directory`, which the grader removes: the limit of a parser ends this process, and no `finally`.
    """
    code = f"{CODE_MARKER}: {test_exit_code}\n" if test_exit_code is not None else ""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", errors="replace", dir=directory, suffix=".log") as file:
        file.write(f"{START_MARKER}\n")
        file.write(body)
        file.write(f"\n{END_MARKER}\n{code}")
        file.flush()
        statuses = parse(file.name)
    return EvaluationReport(found=False) if statuses is None else EvaluationReport.model_validate(judge(statuses))
