"""Mutations: what each kind makes of a line, and what no mutation may touch."""

import ast
import difflib
from pathlib import Path
from typing import Any

import pytest

from swe_aem.tasks.packages import read_package
from swe_aem.tasks.synthesis.mutate import KINDS, find_mutations

PACKAGES = Path(__file__).parents[3] / "tasks" / "micro" / "packages"


def _bodies(kind: str, body: str, head: str = "def f(a, b, c):") -> set[str]:
    """What mutations of one kind make of a function's body, without its indentation."""
    indented = "".join(f"    {line}\n" for line in body.splitlines())
    found = [mutation for mutation in find_mutations("x.py", f"{head}\n{indented}") if mutation.kind == kind]
    results = set()
    for mutation in found:
        first, _, rest = mutation.text.partition("\n")
        assert first == head
        results.add("\n".join(line.removeprefix("    ") for line in rest.rstrip("\n").split("\n")))
    return results


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("operator", "return a + (b)", {"return a - (b)"}),
        ("operator", "a += b", {"a -= b"}),
        ("operator", "if a and b or c: pass", {"if a or b or c: pass", "if a and b and c: pass"}),
        ("operator", "g(not a)", {"g(a)"}),
        ("operator", "g(-a)", {"g(a)"}),
        ("comparison", "g(a < b == c)", {"g(a >= b == c)", "g(a < b != c)"}),
        ("comparison", "g(a not in b)", {"g(a in b)"}),
        ("comparison", "g(a is None)", {"g(a is not None)"}),
        ("off_by_one", "g(a <= b)", {"g(a < b)"}),
        ("off_by_one", "g(a[1:b])", {"g(a[2:b])", "g(a[0:b])", "g(a[1:b + 1])", "g(a[1:b - 1])"}),
        ("off_by_one", "g(a[0])", {"g(a[1])"}),
        ("off_by_one", "for i in range(a): pass", {"for i in range(a + 1): pass", "for i in range(a - 1): pass"}),
        ("constant", "g(True)", {"g(False)"}),
        ("constant", "g(10)", {"g(20)", "g(9)"}),
        ("constant", 'g("ab")', {'g("")', 'g("a")'}),
        ("constant", 'g("")', {'g(" ")'}),
        ("swapped_arguments", "g(a, b, c)", {"g(b, a, c)", "g(a, c, b)"}),
        ("swapped_arguments", "g(x=a, y=b)", {"g(x=b, y=a)"}),
        ("swapped_arguments", "g(a - b)", {"g(b - a)"}),
        ("swapped_arguments", "g(a * b)", set()),
        ("swapped_arguments", "g(*a, b)", set()),
        ("missing_branch", "if a:\n    b()\nc()", {"c()", "b()\nc()"}),
        ("missing_branch", "if a:\n    b()", {"b()"}),
        ("missing_branch", "if a:\n    b()\nelse:\n    c()", {"if a:\n    b()"}),
        (
            "missing_branch",
            "if a:\n    b()\nelif b:\n    c()\nelse:\n    a()",
            {
                "if b:\n    c()\nelse:\n    a()",
                "if a:\n    b()\nelse:\n    a()",
                "if a:\n    b()\nelif b:\n    c()",
            },
        ),
        ("missing_branch", "g(a if b else c)", {"g(a)", "g(c)"}),
        ("missing_branch", "g([x for x in a if b])", {"g([x for x in a])"}),
        ("missing_branch", "g(a and b)", {"g(a)", "g(b)"}),
        ("wrong_return", "return a == b", {"return not (a == b)"}),
        ("wrong_return", "return a.strip(b)", {"return a", "return b"}),
        ("wrong_return", "return a * b", {"return a", "return b"}),
        ("wrong_return", "return a, b", {"return a, a"}),  # b, a is a swap
        ("wrong_return", "return [a]", {"return []"}),
        ("wrong_return", "return a", {"return None"}),
        ("wrong_return", "return", set()),
    ],
)
def test_kind(kind: str, body: str, expected: set[str]) -> None:
    assert _bodies(kind, body) == expected


@pytest.mark.parametrize(
    "text",
    [
        'def f(a: "list[0]" = None) -> "1 + 2":\n    """Doc 1 + 2."""\n',
        "def f(a):\n    raise ValueError('x', 1 + a)\n",
        "def f(a):\n    g(f'{a + 1}')\n",
        "def f(a):\n    assert a + 1\n",
        "@g(1 + 2)\ndef f(a):\n    pass\n",
        "X = 1 + 2\n\n\nclass C:\n    y = 1 + 2\n",
    ],
)
def test_left_alone(text: str) -> None:
    assert find_mutations("x.py", text) == []


def test_function_names() -> None:
    text = "def f(a=1):\n    def g():\n        return a + 1\n\n\nclass C:\n    def m(self):\n        return 1\n"
    assert {mutation.function for mutation in find_mutations("x.py", text)} == {"f", "C.m"}


def test_positions_are_bytes() -> None:
    text = 'def f(a):\n    g("äöü€", a + 1)\n'
    assert 'def f(a):\n    g("äöü€", a - 1)\n' in {mutation.text for mutation in find_mutations("x.py", text)}


def _packages() -> list[Any]:
    """All packages; one is looked at in quick runs too."""
    names = sorted(path.name for path in PACKAGES.iterdir() if path.is_dir())
    return [pytest.param(name, marks=() if name == "caches" else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("package", _packages())
def test_every_mutation_is_a_small_change_of_one_place(package: str) -> None:
    """Each text parses, differs in meaning, and differs from the clean file in one run of lines only."""
    files = read_package(PACKAGES / package)
    kinds: set[str] = set()
    for path, text in files.items():
        if not path.startswith(f"{package}/"):
            continue
        clean, tree = text.splitlines(), ast.dump(ast.parse(text))
        mutations = find_mutations(path, text)
        kinds |= {mutation.kind for mutation in mutations}
        assert len({mutation.text for mutation in mutations}) == len(mutations)
        for mutation in mutations[::7]:
            assert ast.dump(ast.parse(mutation.text)) != tree
            changed = mutation.text.splitlines()
            prefix = _shared(clean, changed)
            suffix = _shared(clean[prefix:][::-1], changed[prefix:][::-1])
            assert len(clean) - prefix - suffix <= 25, "".join(difflib.unified_diff(clean, changed))
    assert kinds == set(KINDS)


def _shared(left: list[str], right: list[str]) -> int:
    """Number of equal lines at the start."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(left), len(right)))
