"""Reads the log of an evaluation: cuts the output of the tests out of it, finds the results, and looks for forgeries.

Runs in the worker process, under its limits. Everything here is one pass over the log, or over its lines.
"""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from swe_aem.core import AnswerKey
from swe_aem.grading.eval_types import results_from
from swe_aem.grading.integrity import contradictions, neutralise
from swe_aem.grading.log_file import LOG_TAIL_CHARS, EvaluationReport, LogFile, LogReading
from swe_aem.grading.markers import CODE_MARKER, END_MARKER, START_MARKER
from swe_aem.grading.pytest_report import PytestReport, read_record
from swe_aem.tasks.families.log_parsers import log_parser

LONGEST_LINE_CHARS = 4096
"""Longer lines are cut in the middle: some parsers need time that grows with the square of a line's length, and what
they look for stands at its ends. Never shorter than the longest test id, for those are in lines too."""

Parse = Callable[[str], dict[str, Any]]
"""Reads the results from the file with that name, which has swebench's markers around the output of the tests."""


def read_log(key: AnswerKey, log: LogFile, parse: Parse, *, with_results: bool) -> LogReading:
    """What a log says; `with_results` also reads its results and looks for forgeries, where it is complete."""
    text = read_text(log)
    body, code = output_of_tests(text, log)
    reading = LogReading(
        begun=log.begin in text, complete=body is not None, test_exit_code=code, tail=text[-LOG_TAIL_CHARS:]
    )
    del text
    if body is None or not with_results:
        return reading
    body, evidence = neutralise(body, key)
    if results_from(key.eval_type) != "log":
        return reading.model_copy(update={"evidence": evidence})
    if not log_parser(key.log_parser).whole_lines:
        body = cut_lines(body, longest_line_chars(key))
    report = _report(body, reading.test_exit_code, parse, log.path.parent)
    results = {**report.fail_to_pass, **report.pass_to_pass}
    evidence += contradictions(key, body, results, _record(log), resolved=report.resolved)
    return reading.model_copy(update={"report": report, "evidence": evidence})


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


def _report(body: str, test_exit_code: int | None, parse: Parse, directory: Path) -> EvaluationReport:
    """Results of the tests, by a parser that wants a file with swebench's own markers.

    The file lies in `directory`, which the grader removes: the limit of a parser ends this process, and no `finally`.
    """
    code = f"{CODE_MARKER}: {test_exit_code}\n" if test_exit_code is not None else ""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", errors="replace", dir=directory, suffix=".log") as file:
        file.write(f"{START_MARKER}\n")
        file.write(body)
        file.write(f"\n{END_MARKER}\n{code}")
        file.flush()
        return EvaluationReport.model_validate(parse(file.name))


def _record(log: LogFile) -> PytestReport | None:
    if log.record_key is None:
        return None
    return read_record(Path(log.record).read_bytes() if log.record else b"", log.record_key)
