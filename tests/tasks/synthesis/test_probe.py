"""What the probe tells of tests in other styles than the bundled packages': unittest, parameters, skips, odd names."""

import time
from dataclasses import replace

import pytest

from swe_aem.tasks.synthesis.codebase import micro_codebase
from swe_aem.tasks.synthesis.mutate import Mutation
from swe_aem.tasks.synthesis.probe_pool import open_pool
from swe_aem.tasks.synthesis.probe_result import FailedTest, ProbeResult

SOURCE = "def area(a, b):\n    if a < 0:\n        raise ValueError('negative')\n    return a * b\n"
TESTS = """import unittest

import pytest

from shapes.core import area


@pytest.fixture(params=[1, 2])
def side(request):
    return request.param


@pytest.mark.parametrize("width, expected", [(3, 6)])
def test_parameters(side, width, expected):
    assert area(width, 2) == expected


@pytest.mark.parametrize("text", ["a b"])
def test_blank(text):
    assert area(1, 1) == 1


@pytest.mark.xfail
def test_known():
    assert area(1, 1) == 2


@pytest.mark.skip
def test_skipped():
    pass


class TestUnit(unittest.TestCase):
    def test_equal(self):
        self.assertEqual(area(2, 3), 6, "with a message")

    def test_text(self):
        self.assertEqual(str(area(2, 3)), "6")

    def test_missed(self):
        with self.assertRaises(ValueError):
            area(-1, 1)

    def test_missed_by_call(self):
        self.assertRaises(ValueError, area, -1, 1)

    def test_truth(self):
        self.assertTrue(area(1, 1) == 1)
"""
FILES = {"shapes/core.py": SOURCE, "tests/test_shapes.py": TESTS}


def test_what_does_not_pass_in_the_clean_package_counts_for_nothing() -> None:
    passed, skipped = "tests/test_shapes.py::test_a", "tests/test_shapes.py::test_skipped"
    result = ProbeResult(
        collected=True,
        passed=(passed,),
        failed=(skipped,),
        failures=(FailedTest(test=skipped, line=1, how="asserted"),),
        exhausted=False,
    )
    codebase = replace(micro_codebase("shapes", FILES), steady=frozenset([passed]))
    counted = codebase.counted(result)
    assert (counted.passed, counted.failed, counted.failures) == ((passed,), (), ())


@pytest.mark.slow
def test_styles() -> None:
    codebase = micro_codebase("shapes", FILES)
    bug = Mutation("shapes/core.py", "area", "operator", "def area(a, b):\n    return a + b\n")
    clean = Mutation("shapes/core.py", "area", "operator", SOURCE)
    with open_pool(codebase, 1) as pool:
        before, after = pool.map([clean, bug])
    assert before is not None
    assert after is not None
    assert not before.failed
    assert not any("known" in test or "skipped" in test for test in before.passed)
    assert len(codebase.counted(before).passed) == len(before.passed) - 1  # the name with a blank
    told = {failure.test.partition("::")[2]: failure for failure in after.failures}
    file = "tests/test_shapes.py::"
    parameters = {"width": "3", "expected": "6"}
    assert told["test_parameters[1-3-6]"] == FailedTest(
        test=f"{file}test_parameters[1-3-6]", line=15, how="compared", observed="5", expected="6", parameters=parameters
    )
    assert (told["TestUnit::test_equal"].how, told["TestUnit::test_equal"].observed) == ("compared", "5")
    assert (told["TestUnit::test_text"].observed, told["TestUnit::test_text"].expected) == ("'5'", "'6'")
    line = '        self.assertEqual(str(area(2, 3)), "6")'
    assert told["TestUnit::test_text"].line == TESTS.splitlines().index(line) + 1
    assert told["TestUnit::test_missed"].how == told["TestUnit::test_missed_by_call"].how == "not_raised"
    assert told["TestUnit::test_truth"].how == "asserted"


LEAVES = """import subprocess
import sys
from pathlib import Path

from shapes.core import area


def test_leaves():
    Path("left").write_text("x")
    Path("shapes/other.py").unlink()
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert area(2, 3) == 6


def test_finds_nothing():
    assert not Path("left").exists() or area(1, 1) == 1
"""


@pytest.mark.slow
def test_what_one_run_leaves_does_not_meet_the_next() -> None:
    """A file that is left, one that is gone, a process that stays."""
    files = {**FILES, "shapes/other.py": "", "tests/test_shapes.py": LEAVES}
    codebase = micro_codebase("shapes", files)
    bug = Mutation("shapes/core.py", "area", "operator", "def area(a, b):\n    return a + b\n")
    began_s = time.monotonic()
    with open_pool(codebase, 1) as pool:
        first, second = pool.map([bug, bug])
    assert first == second
    assert first is not None
    assert len(first.failed) == 2
    assert time.monotonic() - began_s < 30
