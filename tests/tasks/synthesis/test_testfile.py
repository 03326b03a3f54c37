"""Cutting tests out of files and quoting failing ones."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swe_aem.tasks.synthesis.expectation import Equal, Raises, Truth, expectation
from swe_aem.tasks.synthesis.testfile import FailingTest, cut_tests, definition

FILE = """import pytest

from shapes import area, ratio
from fractions import Fraction

LIMIT = 3


def double(value):
    return value * 2


@pytest.mark.filterwarnings("error")
def test_area():
    width = double(2)
    height = LIMIT
    assert area(width, height) == 12


def test_error():
    with pytest.raises(ValueError, match="negative"):
        area(-1, 2)


def test_truth():
    assert not ratio(1, 2)
"""


def test_cut_takes_the_decorator_along() -> None:
    cut = cut_tests(FILE, {"test_area"})
    assert "filterwarnings" not in cut
    assert "def double" in cut
    assert cut.endswith("\n    assert not ratio(1, 2)\n")
    assert "\n\n\n\n" not in cut


def test_cut_the_last_test() -> None:
    assert cut_tests(FILE, {"test_truth"}).endswith("        area(-1, 2)\n")


@given(st.lists(st.sampled_from("abcdef"), unique=True, min_size=1), st.sets(st.sampled_from("abcdef")))
def test_cut_leaves_exactly_the_others(present: list[str], cut: set[str]) -> None:
    text = "import x\n\n\n" + "\n\n".join(f"def test_{name}():\n    assert x.{name}()\n" for name in present)
    left = cut_tests(text, {f"test_{name}" for name in cut & set(present)})
    names = [node.name for node in ast.parse(left).body if isinstance(node, ast.FunctionDef)]
    assert names == [f"test_{name}" for name in present if name not in cut]
    assert left.startswith("import x\n")
    if not cut & set(present):
        assert left == text


def test_example_has_all_that_it_needs_and_no_more() -> None:
    test = FailingTest(FILE, "test_area", 17)
    demand = expectation(test.statement)
    assert isinstance(demand, Equal)
    assert test.example(test.snippet(demand.left)) == (
        "from shapes import area\n\nLIMIT = 3\n\ndef double(value):\n    return value * 2\n\n"
        "width = double(2)\nheight = LIMIT\narea(width, height)"
    )


def test_a_line_outside_the_test_is_refused() -> None:
    with pytest.raises(LookupError, match="no line 3"):
        FailingTest(FILE, "test_area", 3)


@pytest.mark.parametrize(
    ("test", "place"),
    [
        ("tests/test_a.py::test_b", ("tests/test_a.py", "test_b")),
        ("tests/test_a.py::C::test_b[x::y-[1]]", ("tests/test_a.py", "C::test_b")),
    ],
)
def test_definition(test: str, place: tuple[str, str]) -> None:
    assert definition(test) == place


CLASSES = """import unittest


class TestOne(unittest.TestCase):
    def test_a(self):
        pass

    # about b
    @unittest.skip("no")
    def test_b(self):
        pass


class TestTwo:
    '''Two.'''

    class TestInner:
        def test_a(self):
            pass

    def test_c(self):
        pass


def test_a():
    pass
"""


def test_cut_methods() -> None:
    left = cut_tests(CLASSES, {"TestOne::test_b", "TestTwo::test_c"})
    assert left == CLASSES.replace(
        '    # about b\n    @unittest.skip("no")\n    def test_b(self):\n        pass\n', "    # about b\n"
    ).replace("    def test_c(self):\n        pass\n", "")


def test_a_class_that_is_left_empty_still_stands() -> None:
    cut = {"TestOne::test_a", "TestOne::test_b", "TestTwo::TestInner::test_a", "TestTwo::test_c"}
    left = cut_tests(CLASSES, cut)
    assert "class TestOne(unittest.TestCase):\n    pass\n" in left
    assert "    class TestInner:\n        pass\n" in left
    assert left.count("def test_") == 1
    assert left.endswith("\n\ndef test_a():\n    pass\n")
    ast.parse(left)


def test_what_is_not_defined_there_cannot_be_cut() -> None:
    with pytest.raises(LookupError, match="TestOne::test_z"):
        cut_tests(CLASSES, {"test_a", "TestOne::test_z"})


@pytest.mark.parametrize(
    ("code", "demand"),
    [
        ("assert f(1) == 2", "Equal f(1) 2"),
        ("assert not f(1)", "Truth f(1) False"),
        ("assert f(1) < 2", "Truth f(1) < 2 True"),
        ("self.assertEqual(f(1), 2, 'text')", "Equal f(1) 2"),
        ("self.assertFalse(f(1))", "Truth f(1) False"),
        ("self.assertNotIn(1, f())", "Truth 1 not in f() True"),
        ("self.assertIsNotNone(f())", "Truth f() is None False"),
        ("self.assertIsInstance(f(), int)", "Truth isinstance(f(), int) True"),
        ("with raises(E, match='x'):\n    f()", "Raises E x f()"),
        ("pytest.raises(E, f, 1, a=2)", "Raises E None f(1, a=2)"),
        ("self.assertRaisesRegex(E, 'x', f)", "Raises E x f()"),
        ("with self.subTest():\n    f()", "None"),
        ("f()", "None"),
        ("self.check(1)", "None"),
    ],
)
def test_expectation(code: str, demand: str) -> None:
    match expectation(ast.parse(code).body[0]):
        case Equal(left, right):
            told = f"Equal {ast.unparse(left)} {ast.unparse(right)}"
        case Truth(condition, wanted):
            told = f"Truth {ast.unparse(condition)} {wanted}"
        case Raises(exception, pattern, shown):
            told = f"Raises {exception} {pattern} {'; '.join(ast.unparse(node) for node in shown)}"
        case None:
            told = "None"
    assert told == demand


@pytest.mark.parametrize(
    ("name", "line", "public", "called"),
    [
        ("test_area", 17, {"area"}, "area"),
        ("test_truth", 26, {"area", "ratio"}, "ratio"),
        ("test_truth", 26, {"area"}, None),
    ],
)
def test_called(name: str, line: int, public: set[str], called: str | None) -> None:
    assert FailingTest(FILE, name, line).called(public) == called
