"""Log parsers of our own, on lines as the runners print them."""

from hypothesis import given
from hypothesis import strategies as st

from swe_aem.grading.log_parsers import (
    PARSERS,
    multi_swe_bench,
    r2egym,
    swesmith_mypy,
    swesmith_pytest,
    swesmith_unittest,
    swesmith_xdist,
)
from swe_aem.tasks.families.parsers import OWN_PARSERS, SWEBENCH_PARSERS

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


def test_the_names_that_rows_may_ask_for_are_those_that_there_are() -> None:
    from swebench.harness.log_parsers import PARSER_REGISTRY

    assert PARSERS.keys() == OWN_PARSERS
    assert set(PARSER_REGISTRY) - PARSERS.keys() == SWEBENCH_PARSERS


@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=10)).map("".join))
def test_any_text_is_read(log: str) -> None:
    for parse in PARSERS.values():
        assert all(isinstance(name, str) for name in parse(log))


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
