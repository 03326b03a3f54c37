"""The log parsers: each states its runner, and the project's own read lines as the runners print them."""

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from swe_aem.core import TestStatus
from swe_aem.errors import GraderError
from swe_aem.grading.integrity import contradictions
from swe_aem.tasks.families import log_parsers, parser_names
from swe_aem.tasks.families.log_formats import (
    multi_swe_bench,
    r2egym,
    swesmith_mypy,
    swesmith_pytest,
    swesmith_unittest,
    swesmith_xdist,
)
from swe_aem.tasks.families.log_parsers import PARSERS, LogParser
from swe_aem.testing.builders import make_record

OWN = {name: parser.read for name, parser in PARSERS.items() if parser.read is not None}

WORDS = [
    "PASSED",
    "FAILED",
    "ok",
    "::",
    " ... ",
    "short test summary info",
    "✓",
    "Tests run: 1",
    "[gw0] ",
    " - ",
    "x",
    "\n",
]


def test_every_parser_of_swebench_is_stated() -> None:
    from swebench.harness.log_parsers import PARSER_REGISTRY

    unstated = set(PARSER_REGISTRY) - PARSERS.keys()
    assert not unstated, "say in swe_aem/tasks/families/log_parsers.py whose logs these read"
    assert set(PARSERS) - OWN.keys() == set(PARSER_REGISTRY) - OWN.keys()


def test_the_parsers_that_read_pytest_say_so() -> None:
    from swebench.harness.log_parsers import PARSER_REGISTRY

    log = (
        "=== test session starts ===\nPASSED t.py::a\nt.py::b PASSED\n=== short test summary info ===\nPASSED t.py::c\n"
    )
    spec: Any = SimpleNamespace(repo="o/r", version="1", instance_id="o__r-1")

    def reads(parser: LogParser) -> bool:
        try:
            found = parser.read(log) if parser.read else PARSER_REGISTRY[parser.name](log, spec)
        except (ValueError, IndexError):  # two parsers of swebench know only instances of their own
            return False
        return "PASSED" in found.values()

    reading = {parser.name for parser in PARSERS.values() if reads(parser)}
    several_runners = {"multi_swe_bench", "parse_log_gradle_custom"}
    assert reading - several_runners == {parser.name for parser in PARSERS.values() if parser.runner == "pytest"}


def test_a_parser_cannot_be_declared_without_its_runner() -> None:
    with pytest.raises(ValidationError, match="runner"):
        LogParser(name="my_new_pytest", read=swesmith_pytest)  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match="runner"):
        LogParser(name="my_new_pytest", runner="my_runner", read=swesmith_pytest)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fields",
    [
        {"runner": "pytest"},
        {"runner": "other"},
        {"runner": "sympy", "test_name": parser_names.first_word},
        {"runner": "pytest", "test_name": parser_names.first_word, "read_because": "both"},
    ],
)
def test_a_parser_reads_records_or_says_why_not(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="my_new"):
        LogParser(name="my_new", **fields)


NAMES = [
    "tests/a.py::test",
    "tests/a.py::T::test[x]",
    "tests/a.py::test[x y-z]",
    "tests/a.py::test[x - y]",
    "tests/a.py::test[/a/b/c]",
    "tests/a.py::test[//a/b]",
    "tests/a.py::test[/a/*/b]",
    "tests/a.py::test[a/b-/c]",
    "tests/a.py::test[MouseButton.LEFT-1]",
    "tests/a.py::test[[31mred]",
    "tests/a.py::test[]",
]


@pytest.mark.parametrize("name", sorted(name for name, parser in PARSERS.items() if parser.runner == "pytest"))
def test_names_of_a_record_are_those_that_the_parser_reads(name: str) -> None:
    """As pytest prints them: `PASSED id` in its summary, `id PASSED` with --verbose."""
    from swebench.harness.log_parsers import PARSER_REGISTRY

    parser, spec = PARSERS[name], SimpleNamespace(repo="o/r", version="1", instance_id="o__r-1")
    line = "{} PASSED" if parser.read in (swesmith_pytest, swesmith_xdist) else "PASSED {}"
    for test in NAMES:
        log = f"=== short test summary info ===\n{line.format(test)}\n"
        read: Any = parser.read(log) if parser.read else PARSER_REGISTRY[name](log, spec)  # type: ignore[arg-type]
        assert parser.test_name is not None
        assert list(read) == [known for known in [parser.test_name(test)] if known is not None], test


DESCRIPTIONS = {
    "test_a (tests.T.test_a)": "test_a (tests.T.test_a)",
    "test_b (tests.T)\nIt is said ... in words.": "It is said ... in words.",
    "test_c (tests.T)\n  Indented.": "Indented.",
}


@pytest.mark.parametrize("name", sorted(name for name, parser in PARSERS.items() if parser.runner == "unittest"))
def test_names_of_unittest_are_those_that_the_parser_reads(name: str) -> None:
    from swebench.harness.log_parsers import PARSER_REGISTRY

    parser, spec = PARSERS[name], SimpleNamespace(repo="o/r", version="1", instance_id="o__r-1")
    for description, called in DESCRIPTIONS.items():
        log = f"{description} ... ok\n"
        read: Any = parser.read(log) if parser.read else PARSER_REGISTRY[name](log, spec)  # type: ignore[arg-type]
        assert parser.test_name is not None
        assert parser.test_name(description) == called
        assert list(read) == [called]


def test_the_checks_of_a_new_pytest_parser_follow_from_its_record(monkeypatch: pytest.MonkeyPatch) -> None:
    key = make_record().key.model_copy(update={"log_parser": "my_new_pytest"})
    results = {"t::a": TestStatus.PASSED, "t::b": TestStatus.PASSED}
    with pytest.raises(GraderError, match="no log parser 'my_new_pytest'"):
        contradictions(key, "PASSED t::a\n", results, resolved=True)
    stated = LogParser(name="my_new_pytest", runner="pytest", read=swesmith_pytest, read_because="a test")
    monkeypatch.setitem(log_parsers.PARSERS, stated.name, stated)
    (evidence,) = contradictions(key, "PASSED t::a\nPASSED t::b\n", results, resolved=True)
    assert "summary is missing" in evidence


def test_names_of_parsers_are_known_without_swebench() -> None:
    code = "import sys, swe_aem.tasks.families.log_parsers; assert 'swebench' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=10)).map("".join))
def test_any_text_is_read(log: str) -> None:
    for read in OWN.values():
        assert all(isinstance(name, str) for name in read(log))


def test_r2egym() -> None:
    log = (
        "PASSED r2e_tests/test_1.py::before\n=== short test summary info ===\nPASSED r2e_tests/t.py::forged\n"
        "\x1b[1m=== short test summary info ===\x1b[0m\r\n"
        "\x1b[32mPASSED\x1b[0m r2e_tests/test_1.py::TestA::\x1b[1mtest_b[x - y]\x1b[0m\n"
        "FAILED r2e_tests/test_1.py::test_c - AssertionError: a::b\n"
        "ERROR r2e_tests/test_2.py\n"
        "SKIPPED [1] r2e_tests/test_1.py:3: no\n"
        "=== 1 failed, 1 passed in 0.5s ===\n"
    )
    assert r2egym(log) == {"TestA.test_b[x": "PASSED", "test_c": "FAILED", "": "ERROR"}
    assert r2egym("PASSED a::b") == {}


def test_swesmith_pytest() -> None:
    log = "tests/a.py::b PASSED        [ 50%]\ntests/a.py::c[x] FAILED [100%]\nFAILED tests/a.py::c[x]\n"
    assert swesmith_pytest(log) == {"tests/a.py::b": "PASSED", "tests/a.py::c[x]": "FAILED"}
    assert swesmith_xdist(log) == swesmith_pytest(log)
    assert swesmith_xdist("[gw0] [ 50%] PASSED tests/a.py::b \n[gw1] FAILED tests/a.py::c \n") == {
        "tests/a.py::b": "PASSED",
        "tests/a.py::c": "FAILED",
    }


def test_swesmith_unittest_and_mypy() -> None:
    log = "test_a (x.T) ... ok\ntest_b (x.T) ... FAIL\ntest_c (x.T) ... skipped 'no'\nERROR: test_d (x.T)\n"
    assert swesmith_unittest(log) == {
        "test_a (x.T)": "PASSED",
        "test_b (x.T)": "FAILED",
        "test_c (x.T)": "SKIPPED",
        "test_d (x.T)": "FAILED",
    }
    assert swesmith_mypy("PASSED mypy/test/t.py::S::check.test::case\n") == {
        "mypy/test/t.py::S::check.test::case": "PASSED"
    }


def test_multi_swe_bench_reads_each_runner() -> None:
    """Lines as in the patterns of multi-swe-bench's own parsers (harness/repos, 2025-12-18)."""
    lines = {
        "--- PASS: TestA (0.00s)": {"TestA": "PASSED"},
        "    --- FAIL: TestA/sub (0.00s)": {"TestA/sub": "FAILED"},
        "test core::a ... ok": {"core::a": "PASSED"},
        "test core::b ... ignored": {"core::b": "SKIPPED"},
        "test result: ok. 3 passed; 0 failed": {},
        "> Task :core:compileJava": {"core:compileJava": "PASSED"},
        "> Task :core:test FAILED": {"core:test": "FAILED"},
        "> Task :core:jar NO-SOURCE": {"core:jar": "SKIPPED"},
        "org.A > works PASSED": {"org.A > works": "PASSED"},
        "PASS: tests/jq": {"tests/jq": "PASSED"},
        "1/20 Test  #1: core-test ......................   Passed    0.02 sec": {"core-test": "PASSED"},
        "12/20 Test #12: format test ...........***Failed    0.02 sec": {"format test": "FAILED"},
        "[       OK ] A.B (3 ms)": {"A.B": "PASSED"},
        "[  FAILED  ] A.C (3 ms)": {"A.C": "FAILED"},
        "✔ adds (12ms)": {"adds": "PASSED"},
        "1) subtracts": {"subtracts": "FAILED"},
        "✓ src/a.spec.ts (5 tests) 12ms": {"src/a.spec.ts (5 tests)": "PASSED", "src/a.spec.ts": "PASSED"},
        "PASS test/a.test.js (2.3 s)": {"test/a.test.js": "PASSED"},
        "PASSED tests/a.py::b": {"tests/a.py::b": "PASSED"},
        "[INFO] Tests run: 3, Failures: 0, Errors: 0, Skipped: 1, Time elapsed: 0.1 s - in org.A": {"org.A": "PASSED"},
        "[ERROR] Tests run: 3, Failures: 1, Errors: 0, Skipped: 0, Time elapsed: 0.1 s <<< FAILURE! - in org.B": {
            "org.B": "FAILED"
        },
        "Tests run: 3, Failures: 1, Errors: 0, Skipped: 0": {},
    }
    assert {line: multi_swe_bench(line) for line in lines} == lines


def test_multi_swe_bench_remembers_suites_and_failures() -> None:
    jest = "FAIL test/a.test.js\n  ✓ adds (2 ms)\n  ✕ subtracts (2 ms)\n"
    assert multi_swe_bench(jest) == {
        "test/a.test.js": "FAILED",
        "adds": "PASSED",
        "test/a.test.js:adds": "PASSED",
        "subtracts": "FAILED",
        "test/a.test.js:subtracts": "FAILED",
    }
    old_maven = "Running org.A\nTests run: 2, Failures: 0, Errors: 0, Skipped: 0, Time elapsed: 0.1 sec\n"
    assert multi_swe_bench(old_maven) == {"org.A": "PASSED"}
    assert multi_swe_bench("--- FAIL: T (0.1s)\n--- PASS: T (0.1s)\n") == {"T": "FAILED"}
