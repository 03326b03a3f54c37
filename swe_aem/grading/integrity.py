"""Evidence in the log of a test run that its results are not what the test runner found.

Text can be forged. These checks find forgeries that contradict themselves; `docs/grading.md` lists what they miss. They
are for logs that decide: where there are signed records of the runner, nothing that a program prints is evidence.
"""

import re
from collections.abc import Mapping
from typing import assert_never

from swe_aem.core import AnswerKey, TestStatus
from swe_aem.grading.eval_types import eval_type
from swe_aem.grading.markers import CODE_MARKER, END_MARKER, START_MARKER, marked_lines
from swe_aem.tasks.families.log_parsers import Runner, log_parser

PASSING = frozenset({TestStatus.PASSED, TestStatus.XFAIL})

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_PYTEST_SUMMARY = re.compile(r"^=* ?([0-9a-z, ]+) in \d+(?:\.\d+)? ?s(?:econds)?\b.*$", re.MULTILINE)
_PYTEST_COUNT = re.compile(r"\d{1,9} (?:subtests )?[a-z]+")
_PYTEST_CALL = re.compile(r"(?<![\w.-])(?:pytest|py\.test)(?=\s|$)")
_UNITTEST_SUMMARY = re.compile(r"^Ran [1-9]\d* tests? in ", re.MULTILINE)
_SYMPY_SUMMARY = re.compile(r"^=+ tests finished: ", re.MULTILINE)


def neutralise(body: str, key: AnswerKey) -> tuple[str, tuple[str, ...]]:
    """`body` without swebench's markers, and evidence for each kind that was found in it.

    The evaluation does not print them, so a program did that wants to move the bounds of its own log. Where the test
    patch itself has such markers they are no evidence, but are replaced all the same.
    """
    evidence = []
    for marker in (START_MARKER, END_MARKER, CODE_MARKER):
        if marker in body:
            body = body.replace(marker, "> " + marker.lstrip("> "))
            if marker not in key.test_patch:
                evidence.append(f"the test output has swebench's marker {marker!r}")
    return body, tuple(evidence)


def excused(key: AnswerKey, results: Mapping[str, TestStatus]) -> tuple[str, ...]:
    """Evidence for tests that have to pass and ended as expected failures: any code can call `pytest.xfail`."""
    found = sorted(test for test in key.fail_to_pass if results.get(test) is TestStatus.XFAIL)
    what = "a test that has to pass ended as an expected failure, which any code can ask for"
    return (f"{what}: {found[0]}",) if found else ()


def contradictions(key: AnswerKey, body: str, results: Mapping[str, TestStatus], *, resolved: bool) -> tuple[str, ...]:
    """Evidence that the `results` of the tests of the task were not reported by the runner; empty if they agree.

    A run that broke off is evidence only if its results make the task `resolved`: otherwise the code may just have
    crashed, run out of memory or never ended.
    """
    passed = {test for test, status in results.items() if status in PASSING} - log_parser(key.log_parser).no_tests
    if found := excused(key, results):
        return found
    if not passed or not eval_type(key.eval_type).contradictions:
        return ()
    body = _ANSI.sub("", body)
    runner = log_parser(key.log_parser).runner
    if not has_summary(runner, body):
        return (f"{len(passed)} tests passed but the runner's own summary is missing",) if resolved else ()
    return _pytest_contradictions(key, body, passed) if runner == "pytest" else ()


def has_summary(runner: Runner, body: str) -> bool:
    """Is there the line that a runner prints at its end, without which results are not its own? True for a runner that
    has no such line."""
    match runner:
        case "pytest":
            return bool(pytest_summaries(body))
        case "unittest":
            return bool(_UNITTEST_SUMMARY.search(body))
        case "sympy":
            return bool(_SYMPY_SUMMARY.search(body))
        case "other":
            return True
        case unknown:
            assert_never(unknown)


def pytest_summaries(body: str) -> list[re.Match[str]]:
    """Matches of pytest's summary lines, whose first group is `1 failed, 2 passed` or `no tests ran`."""
    return [match for match in _PYTEST_SUMMARY.finditer(body) if _is_count(match[1])]


def _is_count(text: str) -> bool:
    return text == "no tests ran" or all(map(_PYTEST_COUNT.fullmatch, text.split(", ")))


def _pytest_contradictions(key: AnswerKey, body: str, passed: set[str]) -> tuple[str, ...]:
    """Contradictions within a pytest log that has a summary line."""
    summaries = pytest_summaries(body)
    evidence = []
    # As many as there are calls, the last ones; [-0:] is all of them.
    reported = sum(_counted_as_passed(summary[1]) for summary in summaries[-_pytest_calls(key) :])
    if len(passed) > reported:
        evidence.append(f"{len(passed)} tests passed in the log but pytest counted {reported}")
    after = _status_lines(body[summaries[-1].end() :], ("PASSED", "XFAIL"))
    if late := sorted(passed & after):
        evidence.append(f"results after pytest's summary line, e.g. {late[0]}")
    # An id that was cut at a space can stand for several tests; any other has one result.
    doubtful = {test for test in passed & _status_lines(body, ("FAILED",)) if test.count("[") == test.count("]")}
    if doubtful:
        evidence.append(f"both passed and failed in the log: {min(doubtful)}")
    return tuple(evidence)


def _pytest_calls(key: AnswerKey) -> int:
    """How many sessions of pytest the test command starts: each has a summary line of its own. 0 if it does not say,
    because a script or a tool of the repository starts them."""
    commands = [line for line in marked_lines(key.eval_script) if " install " not in line]
    return sum(len(_PYTEST_CALL.findall(line)) for line in commands)


def _counted_as_passed(summary: str) -> int:
    """How many tests passed by the counts of a summary line."""
    counts = {word: int(number) for number, word in re.findall(r"(\d{1,9}) ([a-z]+)", summary)}
    return sum(counts.get(word, 0) for word in ("passed", "xfailed", "xpassed"))


def _status_lines(text: str, statuses: tuple[str, ...]) -> set[str]:
    found = re.findall(rf"^(?:{'|'.join(statuses)}) (\S+)", text, re.MULTILINE)
    return set(found)
