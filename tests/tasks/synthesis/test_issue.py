"""Problem statements: how each way to fail is told."""

import pytest

from swe_aem.tasks.synthesis.codebase import micro_codebase
from swe_aem.tasks.synthesis.issue import write_issue
from swe_aem.tasks.synthesis.probe_result import FailedTest

TESTS = """import pytest

from shapes import Box, area


def test_area():
    assert area(3, 4) == 12


def test_area_again():
    assert area(5, 4) == 20


def test_error():
    with pytest.raises(ValueError, match=r"side 1\\.5"):
        area(1.5, 2)


def test_box():
    box = Box(1)
    assert not box.is_empty()


def test_text():
    assert str(Box(1)) == "box"
"""

FILES = {
    "shapes/boxes.py": "def area(a, b): ...\n\n\nclass Box:\n    def is_empty(self): ...\n",
    "tests/test_shapes.py": TESTS,
}


def _issue(*failures: FailedTest) -> str:
    text = write_issue(micro_codebase("shapes", FILES), failures)
    assert text is not None
    return text


def _failure(test: str, line: int, how: str, observed: str = "", expected: str = "") -> FailedTest:
    return FailedTest.model_validate(
        {
            "test": f"tests/test_shapes.py::{test}",
            "line": line,
            "how": how,
            "observed": observed,
            "expected": expected,
        }
    )


def test_wrong_value() -> None:
    text = _issue(_failure("test_area", 7, "compared", "7", "12"))
    assert "```python\nfrom shapes import area\n\narea(3, 4)\n```" in text
    assert "Expected:\n\n```\n12\n```\n\nObserved:\n\n```\n7\n```" in text
    assert "`area`" in text.splitlines()[0]


def test_second_example() -> None:
    text = _issue(
        _failure("test_area_again", 11, "compared", "19", "20"), _failure("test_area", 7, "compared", "7", "12")
    )
    assert "area(3, 4)\n```" in text  # the shortest values come first
    assert "- `area(5, 4)` gives `19`, expected `20`\n" in text


def test_missing_exception() -> None:
    text = _issue(_failure("test_error", 15, "not_raised"))
    assert "area(1.5, 2)\n```" in text
    assert "Expected: `ValueError` is raised with a message like `side 1.5`." in text
    assert "Observed: no exception is raised." in text
    assert "pytest" not in text


def test_other_exception() -> None:
    assert "Observed: `KeyError: 1` is raised instead." in _issue(_failure("test_error", 16, "raised", "KeyError: 1"))


def test_other_message() -> None:
    assert "the exception comes with another message" in _issue(_failure("test_error", 15, "asserted"))


def test_unexpected_exception() -> None:
    text = _issue(_failure("test_area", 7, "raised", "TypeError: no"))
    assert "Expected: the value is `12`.\n\nObserved: `TypeError: no` is raised." in text


def test_exception_before_the_assertion() -> None:
    text = _issue(_failure("test_box", 20, "raised", "TypeError: no"))
    assert "from shapes import Box\n\nbox = Box(1)\n```" in text
    assert "Expected: no exception." in text


def test_truth() -> None:
    text = _issue(_failure("test_box", 21, "asserted"))
    assert "box = Box(1)\nbox.is_empty()\n```" in text
    assert "Expected: a false value.\n\nObserved: a true one." in text
    assert "`is_empty`" in text.splitlines()[0]


def test_nothing_public_is_called() -> None:
    text = _issue(_failure("test_text", 25, "compared", "'bo'", "'box'"))
    assert "shapes" in text.splitlines()[0]


def test_same_input_same_words() -> None:
    failure = _failure("test_area", 7, "compared", "7", "12")
    assert _issue(failure) == _issue(failure)


@pytest.mark.parametrize("line", [7, 15, 16, 21])
def test_line_numbers_are_not_told(line: int) -> None:
    test = {7: "test_area", 15: "test_error", 16: "test_error", 21: "test_box"}[line]
    assert f"line {line}" not in _issue(_failure(test, line, "raised", "KeyError: 'x'"))


OTHER_STYLES = """import datetime
import unittest

import pytest

import shapes as sh

SIDES = [1, 2]
LAST = SIDES[-1]


@pytest.mark.parametrize("width, expected_area", [(1, 2), (2, 4)])
def test_double(width, expected_area):
    assert expected_area == sh.area(width, LAST)


def test_fixture(tmp_path):
    assert sh.area(tmp_path, 1) == 1


class TestBoxes(unittest.TestCase):
    unit = "cm"

    def setUp(self):
        self.box = sh.Box(1)

    def test_equal(self):
        self.assertTrue(self.box)
        self.assertEqual(self.box.label(self.unit), "box")

    def test_expected_first(self):
        self.assertEqual("box", sh.label())

    def test_missed(self):
        self.assertRaises(ValueError, sh.area, -1, 2)

    def test_missed_too(self):
        with self.assertRaisesRegex(ValueError, "negative"):
            sh.area(-1, 2)

    def test_in(self):
        self.assertIn(1, sh.sides())

    def test_helper(self):
        self.check(sh.area(1, 2))

    def check(self, value):
        self.assertEqual(value, 2)
"""


def _told(name: str, line: str, how: str, observed: str = "", expected: str = "", **parameters: str) -> str | None:
    number = OTHER_STYLES.splitlines().index(f"    {line}") + 1
    failure = _failure(name, number, how, observed, expected).model_copy(update={"parameters": parameters})
    return write_issue(micro_codebase("shapes", {**FILES, "tests/test_shapes.py": OTHER_STYLES}), [failure])


def test_parameters_are_told_and_the_expected_value_is_known_on_either_side() -> None:
    line = "assert expected_area == sh.area(width, LAST)"
    text = _told("test_double[1-2]", line, "compared", "2", "1", width="1", expected_area="2")
    assert text is not None
    assert "import shapes as sh\n\nSIDES = [1, 2]\n\nLAST = SIDES[-1]\n\nwidth = 1\nsh.area(width, LAST)\n```" in text
    assert "Expected:\n\n```\n2\n```\n\nObserved:\n\n```\n1\n```" in text


def test_an_expected_value_is_written_out() -> None:
    line = "assert expected_area == sh.area(width, LAST)"
    text = _told("test_double[1-2]", line, "raised", "TypeError: no", width="1", expected_area="2")
    assert text is not None
    assert "Expected: the value is `2`.\n\nObserved: `TypeError: no` is raised." in text


def test_unittest_equation_with_what_its_class_prepares() -> None:
    line = '    self.assertEqual(self.box.label(self.unit), "box")'
    text = _told("TestBoxes::test_equal", line, "compared", "'bo'", "'box'")
    assert text is not None
    assert 'self = SimpleNamespace()\nself.unit = "cm"\nself.box = sh.Box(1)\nself.box.label(self.unit)\n```' in text
    assert "assert" not in text
    first = _told(
        "TestBoxes::test_expected_first", '    self.assertEqual("box", sh.label())', "compared", "'box'", "'bo'"
    )
    assert first is not None
    assert "sh.label()\n```\n\nExpected:\n\n```\n'box'\n```\n\nObserved:\n\n```\n'bo'\n```" in first


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("test_missed", "    self.assertRaises(ValueError, sh.area, -1, 2)", ""),
        ("test_missed_too", "        sh.area(-1, 2)", " with a message like `negative`"),
    ],
)
def test_unittest_exception(name: str, line: str, message: str) -> None:
    text = _told(f"TestBoxes::{name}", line, "not_raised")
    assert text is not None
    assert f"sh.area(-1, 2)\n```\n\nExpected: `ValueError` is raised{message}." in text


def test_unittest_membership() -> None:
    text = _told("TestBoxes::test_in", "    self.assertIn(1, sh.sides())", "asserted")
    assert text is not None
    assert "1 in sh.sides()\n```\n\nExpected: a true value." in text


def test_what_does_not_stand_alone_is_not_told() -> None:
    assert _told("test_fixture", "assert sh.area(tmp_path, 1) == 1", "compared", "0", "1") is None
    assert _told("TestBoxes::test_helper", "    self.check(sh.area(1, 2))", "compared", "0", "1") is None
    assert _told("TestBoxes::test_inherited", "    self.check(sh.area(1, 2))", "compared", "0", "1") is None
    odd = "assert expected_area == sh.area(width, LAST)"
    assert _told("test_double[1-2]", odd, "compared", "2", "1", width="<object>", expected_area="2") is None
