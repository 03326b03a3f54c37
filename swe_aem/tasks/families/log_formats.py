"""Readers of the log formats that swebench's parsers do not read. Each maps the name of a test to its status.

They run in the grading worker, registered beside swebench's (`log_parsers.py`). The code under evaluation can print
what it likes, so each reader is one pass over the lines, with patterns that cannot backtrack far.
"""

import re

Statuses = dict[str, str]

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_STATUS = re.compile(r"(\S+)\s+(PASSED|FAILED|SKIPPED|ERROR|XFAIL)\b")
_XDIST = re.compile(r"\[gw\d+\]\s(?:\[[^\]]*\]\s)?(PASSED|FAILED|SKIPPED|ERROR|XFAIL)\s(\S+)")
_UNITTEST = {"ok": "PASSED", "FAIL": "FAILED", "ERROR": "ERROR"}


def r2egym(log: str) -> Statuses:
    """pytest's short summary. A test's name is its id without the file, joined by dots.

    Only the last summary is read, because tests can print one before it. R2E-Gym reads all after the first.
    """
    statuses: Statuses = {}
    _, header, summary = _ANSI.sub("", log).replace("\r", "").rpartition("short test summary info")
    if not header:
        return statuses
    for line in summary.split("\n"):
        status = next((word for word in ("PASSED", "FAILED", "ERROR") if word in line), None)
        if status is not None:
            statuses[r2egym_name(line)] = status
    return statuses


def r2egym_name(line: str) -> str:
    """R2E-Gym's name for a test, made from pytest's id or a line that ends with one."""
    return ".".join(line.split("::")[1:]).split(" - ")[0].rstrip()


def swesmith_pytest(log: str) -> Statuses:
    """`pytest --verbose`: the status comes after the name."""
    found = (_STATUS.match(line) for line in _ANSI.sub("", log).split("\n"))
    return {match[1]: match[2] for match in found if match}


def swesmith_xdist(log: str) -> Statuses:
    """`pytest --verbose -n`: worker and status come before the name; without `-n` the same as `swesmith_pytest`."""
    found = (_XDIST.match(line) for line in _ANSI.sub("", log).split("\n"))
    return {match[2]: match[1] for match in found if match} or swesmith_pytest(log)


def swesmith_unittest(log: str) -> Statuses:
    """`unittest --verbose`: `name ... ok`."""
    statuses: Statuses = {}
    for line in log.split("\n"):
        name, dots, outcome = line.rpartition(" ... ")
        if dots and outcome in _UNITTEST:
            statuses[name.strip()] = _UNITTEST[outcome]
        elif dots and outcome.startswith("skipped"):
            statuses[name.strip()] = "SKIPPED"
        elif line.startswith(("FAIL: ", "ERROR: ")):
            statuses[" ".join(line.split()[1:3])] = "FAILED"
    return statuses


def swesmith_mypy(log: str) -> Statuses:
    """mypy's suite: the status anywhere in the line, the name at its end."""
    statuses: Statuses = {}
    for line in log.split("\n"):
        status = next((word for word in ("PASSED", "FAILED") if word in line), None)
        words = line.split(" - ")[0].split()
        if status is not None and words:
            statuses[words[-1]] = status
    return statuses


_DURATION = re.compile(r"\s+\(?\d+(?:\.\d+)?\s?(?:ms|s|m)\)?$")
_COUNT = re.compile(r"\s\(\d+ tests?\)$")
_TIMES = re.compile(r"\s\(\d[^()]{0,20}\)$")
_PASSED, _FAILED, _SKIPPED = "PASSED", "FAILED", "SKIPPED"
_WORDS = {
    "PASS": _PASSED, "PASSED": _PASSED, "ok": _PASSED, "Passed": _PASSED, "OK": _PASSED, "Success": _PASSED,
    "FAIL": _FAILED, "FAILED": _FAILED, "ERROR": _FAILED, "Failed": _FAILED, "XFAIL": _PASSED,
    "SKIP": _SKIPPED, "SKIPPED": _SKIPPED, "ignored": _SKIPPED, "NO-SOURCE": _SKIPPED, "Skipped": _SKIPPED,
    "UP-TO-DATE": _PASSED, "FROM-CACHE": _PASSED,
}  # fmt: skip
_MULTI = tuple(
    re.compile(pattern)
    for pattern in (
        r"--- (?P<status>PASS|FAIL|SKIP): (?P<name>\S+)",  # go test -v
        r"test (?P<name>\S+) \.\.\. (?P<status>ok|FAILED|ignored)",  # cargo test
        r"> Task :(?P<name>\S+)(?: (?P<status>UP-TO-DATE|FROM-CACHE|FAILED|SKIPPED|NO-SOURCE))?$",  # gradle
        r"(?P<name>[^>].* > .*\S) (?P<status>PASSED|FAILED|SKIPPED)$",  # gradle, test by test
        r"(?P<status>PASS|FAIL|SKIP|XFAIL): (?P<name>\S+)$",  # automake
        r"\d+/\d+ +Test +#\d+: (?P<name>\S+(?: \S+)*?) ?\.* *(?:\*+)?(?P<status>Passed|Failed|Skipped)",  # ctest
        r"\[ +(?P<status>OK|FAILED|SKIPPED) +\] (?P<name>\S+)",  # googletest
        r"-- Performing Test (?P<name>.+) - (?P<status>Success|Failed)$",  # cmake
        r"(?P<status>PASSED|FAILED|ERROR|SKIPPED|XFAIL) (?P<name>[^\s\[]\S*)",  # pytest -rA
    )
)
_MAVEN = re.compile(
    r"Tests run: (\d+), Failures: (\d+), Errors: (\d+), Skipped: (\d+), Time elapsed: [^,]{1,40}?(?: in (\S.*))?$"
)
_MAVEN_RUNNING = re.compile(r"(?:\[\w+\] )?Running (\S+)$")
_SUITE = re.compile(r"(PASS|FAIL) (\S.*)$")
_MARKS = {"✓": _PASSED, "✔": _PASSED, "✕": _FAILED, "✗": _FAILED, "×": _FAILED, "○": _SKIPPED}
_MOCHA_FAILURE = re.compile(r"\d+\) (\S.*)$")


def multi_swe_bench(log: str) -> Statuses:
    """The runners of Multi-SWE-bench's repositories, all at once: names are those of its own parsers.

    Tests of jest and similar runners are entered with and without their suite in front (`file:name`), files with and
    without the number of their tests, because repositories differ. A test that is reported as failed anywhere has
    failed. JSON reports are not read.
    """
    statuses: Statuses = {}
    suite = running = ""
    for line in _ANSI.sub("", log).split("\n"):
        line = line.strip()
        for name, status in _line_results(line, suite, running):
            if statuses.get(name) != _FAILED:
                statuses[name] = status
        if found := _SUITE.fullmatch(line):
            suite = _DURATION.sub("", found[2])
        if found := _MAVEN_RUNNING.fullmatch(line):
            running = found[1]
    return statuses


def _line_results(line: str, suite: str, running: str) -> list[tuple[str, str]]:
    """Names and statuses that one line reports."""
    if found := _MAVEN.search(line):
        return _maven(found, running)
    if line[:1] in _MARKS and line[1:2] == " ":
        name = _DURATION.sub("", line[2:])
        names = {name, _COUNT.sub("", name), f"{suite}:{name}" if suite else name}
        return [(name, _MARKS[line[0]]) for name in names]
    if found := _MOCHA_FAILURE.fullmatch(line):
        return [(_TIMES.sub("", found[1]), _FAILED)]
    if found := _SUITE.fullmatch(line):
        return [(_DURATION.sub("", found[2]), _WORDS[found[1]])]
    for pattern in _MULTI:
        if found := pattern.match(line):
            return [(found["name"], _WORDS[found["status"] or "PASS"])]
    return []


def _maven(found: re.Match[str], running: str) -> list[tuple[str, str]]:
    run, failures, errors, skipped = (int(number) for number in found.groups()[:4])
    name = (found[5] or running).strip()
    if not name or not run:
        return []
    status = _FAILED if failures or errors else _SKIPPED if skipped == run else _PASSED
    return [(name, status)]
