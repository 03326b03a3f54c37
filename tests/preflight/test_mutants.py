"""Mutants of gold patches: where they are, which of them are equivalent, and that the same input gives the same."""

import ast

import pytest

from swe_aem.grading import LINK, Blob, Change
from swe_aem.preflight.hunks import changed_lines, hunks, without_hunk
from swe_aem.preflight.mutants import Mutant, make_mutants
from swe_aem.preflight.same_program import meaning, runs_nothing
from swe_aem.preflight.source_text import find_text_edits
from swe_aem.tasks.synthesis.source import Edit

FILE = 0o100644
OLD = """\
def first(items):
    return items[0]


def spread(low, high, step):
    total = low
    while total < high:
        total = total + step
    return total


def last(items):
    return items[-1]
"""
NEW = OLD.replace("items[0]", "items[0] if items else None").replace("items[-1]", "items[-1] if items else None")


def change(path: str, old: str | None, new: str | None, mode: int = FILE) -> Change:
    return Change(
        path,
        None if old is None else Blob(FILE, old.encode()),
        None if new is None else Blob(mode, new.encode()),
    )


def texts(mutants: tuple[Mutant, ...], path: str) -> list[str | None]:
    """What is at a path under each mutant; None where it is as before the gold patch."""
    found = [{one.path: one for one in mutant.changes}.get(path) for mutant in mutants]
    return [one.new.content.decode() if one and one.new else None for one in found]


def test_bugs_lie_in_the_lines_that_the_gold_patch_changes() -> None:
    gold = [change("m.py", OLD, NEW)]
    made = make_mutants(gold, 1000, "s").made
    assert len(made) > 10
    kept = [line for line in NEW.splitlines() if "if items" not in line]
    for text in texts(made, "m.py"):
        assert text is not None
        ast.parse(text)
        assert [line for line in text.splitlines() if "items[" not in line and "return" not in line] == [
            line for line in kept if "return" not in line
        ]
        assert "return total" in text
        assert text not in (OLD, NEW)
    assert len({mutant.what for mutant in made}) == len(made)


def test_the_same_seed_makes_the_same_and_another_makes_others() -> None:
    gold = [change("m.py", OLD, NEW)]
    assert make_mutants(gold, 6, "a") == make_mutants(gold, 6, "a")
    assert make_mutants(gold, 6, "a") != make_mutants(gold, 6, "b")
    assert len(make_mutants(gold, 6, "a").made) == 6
    assert make_mutants(gold, 0, "a").made == ()


def test_each_place_has_a_bug_before_one_has_a_second() -> None:
    gold = [change("m.py", "", "def f(a, b):\n    return a[7] + b[8] - a[9]\n")]
    places = [mutant.what.split(": ")[0] for mutant in make_mutants(gold, 1000, "s").made]
    assert len(places) > 10
    assert len(set(places[:6])) == 6


def test_parts_of_the_patch_are_left_out() -> None:
    gold = [change("m.py", OLD, NEW), change("n.py", None, "x = 1\n"), change("gone.py", "y = 2\n", None)]
    whats = [mutant.what for mutant in make_mutants(gold, 1000, "s").made]
    parts = sorted(what for what in whats if "left out" in what)
    assert parts == [
        "m.py: left out",
        "m.py:13: change left out",
        "m.py:2: change left out",
        "n.py: left out",
    ]
    assert len([what for what in whats[:4] if "left out" in what]) == 4
    assert sum("left out" in mutant.what for mutant in make_mutants(gold, 4, "s").made) == 2


def test_a_patch_of_one_part_has_no_partial_patch() -> None:
    made = make_mutants([change("m.py", OLD, OLD.replace("items[0]", "items[1]"))], 1000, "s").made
    assert not any("left out" in mutant.what for mutant in made)


def test_what_the_task_began_with_is_no_mutant() -> None:
    gold = [change("m.py", "def f(a, b):\n    return a > b\n", "def f(a, b):\n    return a >= b\n")]
    made = make_mutants([*gold, change("CHANGES.txt", "", "fixed\n")], 1000, "s")
    assert not {None, "def f(a, b):\n    return a > b\n"} & set(texts(made.made, "m.py"))
    assert "def f(a, b):\n    return a < b\n" in texts(made.made, "m.py")
    assert made.equivalent == 1


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        pytest.param("m.py", "x = 1\n", "x = 1  # one\n", id="comment"),
        pytest.param("m.py", "def f():\n    return 1\n", 'def f():\n    """One."""\n    return 1\n', id="docstring"),
        pytest.param("m.py", "x = 2 * 3\n", "x = (6)\n", id="folded constant"),
        pytest.param("m.py", "def f():\n    return 1\n", "def f():\n    return 1\n    g()\n", id="dead code"),
        pytest.param("m.py", "def f():\n    x = 1\n", "def f():\n    x: int = 1\n", id="local annotation"),
        pytest.param(
            "m.py", "if TYPE_CHECKING:\n    import a\n", "if TYPE_CHECKING:\n    import b\n", id="for type checkers"
        ),
        pytest.param("m.py", "a = b in (1, 2)\n", "a = b in (2, 1)\n", id="order of alternatives"),
        pytest.param("m.py", "isinstance(a, (A, B))\n", "isinstance(a, (B, A))\n", id="order of classes"),
        pytest.param(
            "m.py",
            "try:\n    f()\nexcept (A, B):\n    pass\n",
            "try:\n    f()\nexcept (B, A):\n    pass\n",
            id="order of exceptions",
        ),
        pytest.param("docs/conf.py", "x = 1\n", "x = 2\n", id="documentation"),
        pytest.param("README.md", "a\n", "b\n", id="readme"),
        pytest.param("pkg/m.pyi", "x: int\n", "x: str\n", id="stub"),
        pytest.param("pkg/tests/data.json", "1\n", "2\n", id="tests"),
        pytest.param("m.js", "f(1);\n", "/* one */ f(1); // two\n", id="comment of another language"),
    ],
)
def test_a_part_that_changes_no_program_is_counted_apart(path: str, old: str, new: str) -> None:
    found = make_mutants([change("other.py", "x = 1\n", "x = 5\n"), change(path, old, new)], 1000, "s")
    assert not any(mutant.what.startswith(f"{path}: ") for mutant in found.made)
    assert found.equivalent >= 1


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("m.py", "x = 1\n", "x = 1.0\n"),
        ("m.py", "x = 0.0\n", "x = -0.0\n"),
        ("m.py", "def f(a=1):\n    pass\n", "def f(*, a=1):\n    pass\n"),
        ("m.py", "x = '# a'\n", "x = '# b'\n"),
        ("m.py", "a = f((1, 2))\n", "a = f((2, 1))\n"),
        ("m.py", "a = b in (1, g())\n", "a = b in (g(), 1)\n"),
        ("m.js", "f('// a');\n", "f('// b');\n"),
        ("m.go", "f(`/* a */`)\n", "f(`/* b */`)\n"),
        ("m.json", '{"a": 1}\n', '{"a":  1}\n'),
        ("django/test/client.py", "x = 1\n", "x = 2\n"),
        ("a/latest.py", "x = 1\n", "x = 2\n"),
    ],
)
def test_what_may_differ_is_not_called_equivalent(path: str, old: str, new: str) -> None:
    assert not runs_nothing(path)
    assert meaning(path, old.encode()) != meaning(path, new.encode())


def test_bugs_that_change_nothing_are_counted_apart() -> None:
    new = "def f():\n    return 1\n    x = 2 + 3\n"
    found = make_mutants([change("m.py", "def f():\n    return 0\n", new), change("n.py", "", "x = 1\n")], 1000, "s")
    assert found.equivalent >= 2
    assert not any("m.py:3" in mutant.what for mutant in found.made)


def test_what_no_test_should_look_at_is_left_alone() -> None:
    body = '    log.warning("no %d", a + 1)\n    print(a - 1)\n    add("--x", help="the x" + "y")\n    raise E(a + 2)\n'
    made = make_mutants([change("m.py", "", f"__all__ = ['f']\n\n\ndef f(a):\n{body}")], 1000, "s").made
    assert sorted(mutant.what.partition(": ")[2] for mutant in made) == [
        'constant: `"--x"` -> `""`',
        'constant: `"--x"` -> `"--"`',
        'missing_statement: `add("--x", help="the x" + "y")` -> `pass`',
        "missing_statement: `raise E(a + 2)` -> `pass`",
    ]


@pytest.mark.parametrize(
    ("path", "line", "expected"),
    [
        ("m.js", "if (a === b && c < 3) return true; // a == b", {
            "if (a !== b && c < 3) return true; // a == b",
            "if (a === b || c < 3) return true; // a == b",
            "if (a === b && c >= 3) return true; // a == b",
            "if (a === b && c <= 3) return true; // a == b",
            "if (a === b && c < 4) return true; // a == b",
            "if (a === b && c < 3) return false; // a == b",
        }),
        ("M.java", 'List<String> x = f("a == 1 && true");', set()),
        ("m.go", "x := `a == 1`; y := a->b; s[1.5]", set()),
        ("m.rs", "fn f<'a>(x: &'a str) -> bool { x.len() > 0 }", {
            "fn f<'a>(x: &'a str) -> bool { x.len() <= 0 }",
            "fn f<'a>(x: &'a str) -> bool { x.len() >= 0 }",
            "fn f<'a>(x: &'a str) -> bool { x.len() > 1 }",
        }),
        ("m.rb", "x = true # not 1", {"x = false # not 1"}),
        ("m.yaml", "x: true", set()),
    ],
)  # fmt: skip
def test_other_languages_are_changed_outside_of_strings_and_comments(path: str, line: str, expected: set) -> None:
    def apply(edit: Edit) -> str:
        data = line.encode()
        return (data[: edit.start] + edit.replacement.encode() + data[edit.end :]).decode()

    assert {apply(edit) for _, edit in find_text_edits(path, line)} == expected


def test_odd_files_have_no_bugs_and_can_be_left_out() -> None:
    gold = [
        change("data.bin", None, "\0\1"),
        Change(
            "latin.py", Blob(FILE, b"x = 1\n"), Blob(FILE, "# -*- coding: latin-1 -*-\nx = 'ä'\n".encode("latin-1"))
        ),
        change("python2.py", "print 1\n", "print 2\n"),
        Change("link", Blob(LINK, b"a"), Blob(LINK, b"b")),
        change("run.sh", "x\n", "x\n", mode=0o100755),
    ]
    found = make_mutants(gold, 1000, "s")
    assert sorted(mutant.what for mutant in found.made) == sorted(f"{one.path}: left out" for one in gold)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_hunks_put_together_are_the_change(end: str) -> None:
    old = end.join(f"line {number}" for number in range(60)).encode()
    new = (
        old.replace(b"line 7", b"line seven")
        .replace(b"line 9" + end.encode(), b"")
        .replace(b"line 40", b"a" + end.encode() + b"b")
    )
    found = hunks(old, new)
    assert len(found) == 2
    for hunk in reversed(found):
        new = without_hunk(old, new, hunk)
    assert new == old


def test_changed_lines_are_those_of_the_new_text() -> None:
    assert changed_lines(b"a\nb\nc\n", b"a\nx\nc\nd\n") == {2, 4}
    assert changed_lines(b"a\nb\n", b"a\n") == frozenset()


def test_a_large_file_has_mutants_where_it_changed() -> None:
    lines = [f"def f{number}(a, b):\n    return a + {number}\n\n\n" for number in range(1000)]
    old, new = "".join(lines), "".join([*lines[:500], "def g(a, b):\n    return a < b\n\n\n", *lines[500:]])
    made = make_mutants([change("m.py", old, new)], 5, "s").made
    assert {mutant.what.split(":")[1] for mutant in made} == {"2002"}
