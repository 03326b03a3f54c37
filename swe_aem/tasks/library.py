"""`FunctionLibrary`: functions with their tests, from which small repositories are composed.

A file `functions/NAME.py` holds one function and `test_NAME`, whose asserts are equations. A repository's name lists
its module and the functions in it, in order: `ranges-clamp-sign` is `ranges.py` with `clamp` and then `sign`.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from swe_aem.core.python_source import parsed_module
from swe_aem.errors import UserError
from swe_aem.tasks.packages import TreeStore


@dataclass(frozen=True)
class Equation:
    """One equation of a test: both sides as source text."""

    call: str
    expected: str


@dataclass(frozen=True)
class Function:
    """One function of a library."""

    name: str
    text: str
    """Source text of its definition, with a newline at the end."""
    checks: tuple[Equation, ...]

    @property
    def test_class(self) -> str:
        """Name of the test class made of its checks."""
        return "".join(word.capitalize() for word in self.name.split("_"))


@dataclass(frozen=True)
class Layout:
    """The module of a repository and the functions in it."""

    module: str
    functions: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the repository."""
        return "-".join((self.module, *self.functions))

    @property
    def source(self) -> str:
        """Path of the module."""
        return f"{self.module}.py"

    @property
    def tests(self) -> str:
        """Path of the test file."""
        return f"tests/test_{self.module}.py"


class FunctionLibrary(TreeStore):
    """The functions of a directory."""

    @cached_property
    def functions(self) -> Mapping[str, Function]:
        """Every function by name; raises `UserError` that names a file of the wrong form."""
        return {path.stem: _read(path) for path in sorted(self.root.glob("*.py"))}

    def clean(self, package: str) -> Mapping[str, str]:
        """Files of the repository of that name, relative path to text; raises `UserError` for unknown functions."""
        module, *names = package.split("-")
        unknown = [name for name in names if name not in self.functions]
        if unknown or not names:
            raise UserError(f"{self.root}: has no function {', '.join(unknown) or 'named'} for {package!r}")
        return self.compose(Layout(module, tuple(names)))

    def compose(self, layout: Layout, *, changed: Mapping[str, str] | None = None) -> dict[str, str]:
        """Files of a layout; `changed` replaces the texts of some functions."""
        chosen = [self.functions[name] for name in layout.functions]
        texts = [(changed or {}).get(function.name, function.text) for function in chosen]
        return {layout.source: "\n\n".join(texts), layout.tests: _test_file(layout, chosen)}

    def _content(self) -> Iterator[tuple[str, str]]:
        for path in sorted(self.root.glob("*.py")):
            yield path.name, path.read_bytes().decode()


def _read(path: Path) -> Function:
    text = path.read_bytes().decode()
    name = path.stem
    try:
        function, test = parsed_module(text).body
        assert isinstance(function, ast.FunctionDef)
        assert isinstance(test, ast.FunctionDef)
        assert (function.name, test.name) == (name, f"test_{name}")
        checks = tuple(_check(statement) for statement in test.body)
    except (SyntaxError, ValueError, AssertionError):
        raise UserError(
            f"{path}: expected `def {name}` and then `def test_{name}` whose statements are asserts of equations"
        ) from None
    definition = ast.get_source_segment(text, function)
    return Function(name, f"{definition}\n", checks)


def _check(statement: ast.stmt) -> Equation:
    assert isinstance(statement, ast.Assert)
    equation = statement.test
    assert isinstance(equation, ast.Compare)
    assert isinstance(equation.ops[0], ast.Eq | ast.Is)
    return Equation(ast.unparse(equation.left), ast.unparse(equation.comparators[0]))


def _test_file(layout: Layout, functions: Sequence[Function]) -> str:
    """The checks as unittest classes, one per function: unittest starts five times as fast as pytest."""
    lines = ["import unittest", "", f"from {layout.module} import {', '.join(layout.functions)}"]
    for function in functions:
        lines += ["", "", f"class {function.test_class}(unittest.TestCase):"]
        for number, check in enumerate(function.checks, 1):
            lines += [""] if number > 1 else []
            lines += [f"    def test_{number}(self):", f"        self.assertEqual({check.call}, {check.expected})"]
    return "\n".join(lines) + "\n"
