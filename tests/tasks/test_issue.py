"""Problem statements: how each way to fail is told."""

import pytest

from swe_aem.tasks.issue import write_issue
from swe_aem.tasks.probe_result import Failure

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
    "shapes/__init__.py": "def area(a, b): ...\n\n\nclass Box:\n    def is_empty(self): ...\n",
    "tests/test_shapes.py": TESTS,
}


def _issue(*failures: Failure) -> str:
    return write_issue("shapes", FILES, failures)


def _failure(test: str, line: int, how: str, observed: str = "", expected: str = "") -> Failure:
    return Failure.model_validate(
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
