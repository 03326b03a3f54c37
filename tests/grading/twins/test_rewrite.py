"""Code that passes a test fails its twin, and everything that is not sure is left alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from swe_aem.grading.twins.rewrite import rewrite

HEAD = "import pytest\nimport unittest\n\nCASE = unittest.TestCase()\n\n\n"


def twin_of(body: str, test: str = "t.py::test_it", head: str = HEAD) -> str | None:
    """The text of the twin of one test, or None."""
    source = f"{head}{body}".encode()
    out = rewrite({"t.py": source}, [test])
    assert set(out.names) | set(out.why_not) == {test}
    return out.files["t.py"].decode().removeprefix(head) if out.names else None


def f(value=None):
    """The code under test: what comes in goes out; text is counted."""
    if value == "bad":
        raise ValueError("bad")
    return value


CONTRADICTED = {
    "assert f(8) == 8": "assert f(8) == 7",
    "assert 1 == f(1)": "assert 2 == f(1)",
    "assert f(-3) == -3": "assert f(-3) == -2",
    "assert f(1.25) == 1.25": "assert f(1.25) == 2.25",
    "assert f(0x1f) == 0x1f": "assert f(0x1f) == 0x2f",
    "assert f(True) == True": "assert f(True) == False",
    "assert f('ab') == 'ab'": "assert f('ab') == 'ac'",
    'assert f("2024-01-31") == "2024-01-31"': 'assert f("2024-01-31") == "2024-01-32"',
    r"assert f('a\n') == 'a\n'": r"assert f('a\n') == 'b\n'",
    r"assert f('\x41') == '\x41'": None,
    "assert f('') == ''": "assert f('') == 'x'",
    "assert f(b'ab') == b'ab'": "assert f(b'ab') == b'ac'",
    "assert f('-') == '-'": "assert f('-') == '+'",
    "assert f(' ') == ' '": "assert f(' ') == 'x'",
    "assert f([1, [2]]) == [1, [2]]": "assert f([1, [2]]) == [1, [1]]",
    "assert f([]) == []": "assert f([]) == [0]",
    "assert f({}) == {}": "assert f({}) == {0: 0}",
    "assert f(()) == ()": "assert f(()) == (0,)",
    "assert f({'a': 1}) == {'a': 1}": "assert f({'a': 1}) == {'a': 2}",
    "assert f({'a': None}) == {'a': None}": "assert f({'a': None}) == {'b': None}",
    "assert f(set()) == set()": "assert f(set()) == {0}",
    "assert f(frozenset([1])) == frozenset([1])": "assert f(frozenset([1])) == frozenset([2])",
    "assert f('a b') == ' '.join(['a', 'b'])": "assert f('a b') == ' '.join(['a', 'c'])",
    "assert f(None) is None": "assert f(None) is not None",
    "assert f([1]) == list(f([1]))": "assert f([1]) != list(f([1]))",
    "assert f(1)": "assert (not (f(1)))",
    "assert not f(0)": "assert (not (not f(0)))",
    "assert (f(1)\n            == f(1)), 'why'": "assert (f(1)\n            != f(1)), 'why'",
    "assert 'a' in f('abc')": "assert 'a' not in f('abc')",
    "assert f(1) != 2": "assert f(1) == 2",
    "assert f(1) and f(2) == 2": "assert f(1) and f(2) == 1",
    "with pytest.raises(ValueError, match='bad'):\n        f('bad')": (
        "with pytest.raises(BufferError, match='bad'):\n        f('bad')"
    ),
    "pytest.raises((ValueError, KeyError), f, 'bad')": "pytest.raises(BufferError, f, 'bad')",
    "expected = 4\n    assert f(4) == expected": "expected = 3\n    assert f(4) == expected",
    "for x, y in [(1, 1)]:\n        assert f(x) == y": "for x, y in [(1, 2)]:\n        assert f(x) == y",
    "CASE.assertEqual(f(3), 3)": "CASE.assertEqual(f(3), 2)",
    "CASE.assertTrue(f(3))": "CASE.assertFalse(f(3))",
    "CASE.assertIn(1, f([1]))": "CASE.assertNotIn(1, f([1]))",
    "CASE.assertRaises(ValueError, f, 'bad')": ("CASE.assertRaises(BufferError, f, 'bad')"),
    "assert f('''a\n    b''') == '''a\n    b'''": "assert f('''a\n    b''') == '''a\n    c'''",
    "assert f('ab') == ('a'\n            'b')": "assert f('ab') == ('a'\n            'c')",
    "assert f('é') == 'é' and f(1) == 1": "assert f('é') == 'x' and f(1) == 1",
}


def outcome(body: str) -> str:
    """`passed` or `failed`."""
    space: dict[str, object] = {"f": f}
    exec(HEAD + body, space)
    try:
        space["test_it"]()  # type: ignore[operator]
    except BaseException as error:
        return "failed" if not isinstance(error, SyntaxError) else "broken"
    return "passed"


@pytest.mark.parametrize("statement", CONTRADICTED)
def test_code_that_passes_the_test_fails_its_twin(statement: str) -> None:
    body = f"def test_it():\n    {statement}\n"
    assert outcome(body) == "passed"
    twin = twin_of(body)
    assert twin is not None
    wanted = CONTRADICTED[statement]
    assert wanted is None or twin == f"def test_it():\n    {wanted}\n"
    assert outcome(twin) == "failed"
    assert len(twin.split("\n")) == len(body.split("\n"))


LEFT_ALONE = (
    "assert f(3) < 4",
    "assert f(3) == pytest.approx(3)",
    "assert math.isclose(f(3), 3)",
    "case.assertAlmostEqual(f(3), 3)",
    "case.assertGreater(f(3), 2)",
    "np.testing.assert_allclose(f(3), 3)",
    "assert mock_f.call_count == 1",
    "m.assert_called_once_with(3)",
    "assert f(3) == snapshot",
    "assert all(x < 3 for x in f([1]))",
    "assert 1 == 1",
    "with pytest.raises(Exception):\n        f('bad')",
    "for x in f([1]):\n        assert x == 1",
    "if f(1):\n        assert f(1) == 1",
    "while f(1):\n        assert f(1) == 1",
    "try:\n        assert f(1) == 1\n    except AssertionError:\n        pass",
    "with contextlib.suppress(AssertionError):\n        assert f(1) == 1",
    "if f(0):\n        return\n    assert f(1) == 1",
    "for x in [1, 2]:\n        if x == f(1):\n            continue\n        assert f(x) == 2",
    "def inner():\n        assert f(1) == 1\n    inner",
)


@pytest.mark.parametrize("statement", LEFT_ALONE)
def test_what_is_not_sure_is_left_alone(statement: str) -> None:
    assert twin_of(f"def test_it():\n    {statement}\n") is None


def test_a_name_that_is_used_twice_keeps_its_literal() -> None:
    twin = twin_of("def test_it():\n    text = 'a'\n    assert f(text) == text\n")
    assert twin == "def test_it():\n    text = 'a'\n    assert f(text) != text\n"


@pytest.mark.parametrize("mark", ["@given(st.integers())", "@pytest.mark.flaky", "@pytest.mark.xfail", "@skip('x')"])
def test_marked_tests_are_left_alone(mark: str) -> None:
    assert twin_of(f"{mark}\ndef test_it():\n    assert f(1) == 1\n") is None


def test_an_assertion_about_what_the_patch_changes_is_preferred() -> None:
    body = b"def test_it():\n    assert g(1) == 1\n    x = f(2)\n    assert x == 2\n    assert g(3) == 3\n"
    out = rewrite({"t.py": body}, ["t.py::test_it"], about=["f"])
    assert out.files["t.py"] == body.replace(b"x == 2", b"x == 1")


@pytest.mark.parametrize("value", ["(" * 150 + "1" + ")" * 150, "+".join(["f(1)"] * 900), "9" * 5000])
def test_odd_sources_have_a_twin_or_none_and_no_error(value: str) -> None:
    head = "@pytest.mark.parametrize('x', [VALUE])\ndef test_it(x):\n    assert f(VALUE) == x\n"
    for body in (head, "def test_it():\n    assert f(1) == VALUE\n"):
        source = body.replace("VALUE", value).encode()
        for test in ("t.py::test_it", f"t.py::test_it[{value}]"):
            out = rewrite({"t.py": source}, [test])
            assert set(out.names) | set(out.why_not) == {test}


def test_examples_of_the_problem_statement_stay_where_others_can_change() -> None:
    """Code could tell a twin by them: it knows what they are."""
    body = b"def test_a():\n    assert f('x y') == 3\n\n\ndef test_b():\n    assert f(2) == 2\n"
    tests, statement = ["t.py::test_a", "t.py::test_b"], 'I expect f("x  y") == 3.'
    out = rewrite({"t.py": body}, tests, statement=statement)
    assert out.files["t.py"] == body.replace(b"== 2", b"== 1")
    assert (list(out.names), list(out.why_not)) == (["t.py::test_b"], ["t.py::test_a"])
    assert list(rewrite({"t.py": body}, tests[:1], statement=statement).names) == ["t.py::test_a"]
    both = b"def test_a():\n    assert f('x y') == 3\n    assert f(2) == 2\n"
    assert rewrite({"t.py": both}, tests[:1], statement=statement).files["t.py"] == both.replace(b"== 2", b"== 1")


UNITTEST = """import unittest


class Base:
    def test_inherited(self):
        self.assertEqual(f(1), 1)


class Adds(Base, unittest.TestCase):
    def test_one(self):
        self.assertEqual(f(2), 2)


class Other(unittest.TestCase):
    def test_one(self):
        self.assertEqual(f(3), 3)
"""


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("tests/test_calc.py::Adds::test_one", 11),
        ("test_calc.py::Adds::test_one", 11),
        ("test_one (tests.test_calc.Adds.test_one)", 11),
        ("test_one (tests.test_calc.Adds)", 11),
        ("test_one (test_calc.Other)", 16),
        ("Other.test_one", 16),
        ("tests/test_calc.py::Adds::test_inherited", 6),
    ],
)
def test_names_are_found_in_every_form(name: str, line: int) -> None:
    out = rewrite({"tests/test_calc.py": UNITTEST.encode(), "tests/other.py": b""}, [name])
    assert out.names == {name: name}, out.why_not
    changed = out.files["tests/test_calc.py"].decode().split("\n")
    old = UNITTEST.split("\n")
    assert [n for n, pair in enumerate(zip(old, changed, strict=True), start=1) if pair[0] != pair[1]] == [line]


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({"a.py": b"def test_x():\n    assert f()\n", "b.py": b"def test_x():\n    assert f()\n"}, "test_x"),
        ({"a.py": b"def test_x(:\n"}, "a.py::test_x"),
        ({"a.py": "# coding: latin-1\ndef test_x():\n    assert f() == 'é'\n".encode("latin-1")}, "a.py::test_x"),
        ({"a.py": b"def test_x():\n    assert f()\n"}, "b.py::test_x"),
        ({"a.py": b"def test_x():\n    assert f()\n"}, "Adds two numbers ... "),
        ({}, "reward"),
    ],
)
def test_a_test_that_is_not_found_for_sure_has_no_twin(files: dict[str, bytes], name: str) -> None:
    out = rewrite(files, [name])
    assert (out.files, out.names) == ({}, {})
    assert out.why_not[name]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_line_ends_and_marks_stay(end: str, bom: bytes) -> None:
    body = bom + f"def test_it(): assert f('é') == 'éa'{end}# done{end}".encode()
    assert rewrite({"t.py": body}, ["t.py::test_it"]).files["t.py"] == body.replace("éa'".encode(), "éb'".encode())


PARAMETRIZED = """import pytest

CASES = [("a", 1), ("b c", 2)]


@pytest.mark.parametrize(("text", "count"), CASES)
def test_table(text, count):
    assert f(text) == count


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize("text, count", [("a", 1), pytest.param("b", 2, id="second"), ("c::d", [3])])
def test_stacked(text, count, flag):
    assert f(text, flag) == count


@pytest.mark.parametrize("text", ["a", "b"])
def test_body(text):
    assert f(text) == 1


@pytest.mark.parametrize("x, y", [(1, 2)], ids=str)
def test_made(x, y):
    assert f(x) == y
"""


def collected(directory: Path, text: str) -> set[str]:
    """The ids that pytest gives."""
    (directory / "test_p.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "-c", "/dev/null"]
    done = subprocess.run([*command, "--rootdir=.", "test_p.py"], cwd=directory, capture_output=True, text=True)
    return {line for line in done.stdout.split("\n") if "::" in line}


def test_parametrized_tests_get_the_names_that_pytest_gives_them(tmp_path: Path) -> None:
    names = sorted(collected(tmp_path, PARAMETRIZED))
    assert len(names) == 11
    out = rewrite({"test_p.py": PARAMETRIZED.encode()}, names)
    assert out.why_not == {}
    assert set(out.names.values()) == collected(tmp_path, out.files["test_p.py"].decode())
    assert out.names["test_p.py::test_table[b c-2]"] == "test_p.py::test_table[b c-1]"
    assert out.names["test_p.py::test_stacked[second-True]"] == "test_p.py::test_stacked[second-True]"
    assert out.names["test_p.py::test_body[a]"] == "test_p.py::test_body[a]"
    assert b"assert f(x) != y" in out.files["test_p.py"]


def test_only_the_rows_that_are_asked_for_change() -> None:
    out = rewrite({"test_p.py": PARAMETRIZED.encode()}, ["test_p.py::test_table[b"])
    assert out.names == {"test_p.py::test_table[b": "test_p.py::test_table[b"}
    assert b'CASES = [("a", 1), ("b c", 1)]' in out.files["test_p.py"]


def test_names_are_kept_where_the_command_has_them() -> None:
    out = rewrite({"test_p.py": PARAMETRIZED.encode()}, ["test_p.py::test_table[a-1]"], keep_names=True)
    assert out.names == {"test_p.py::test_table[a-1]": "test_p.py::test_table[a-1]"}
    assert b"assert f(text) != count" in out.files["test_p.py"]
