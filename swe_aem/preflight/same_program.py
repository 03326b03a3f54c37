"""Is one text of a file the same program as another? Only what can be proved counts.

Python: both compile to the same bytecode (trivial compiler equivalence: Papadakis et al. 2015) without docstrings,
without what stands under `if TYPE_CHECKING:`, and with alternatives sorted, of which the order does not matter:
`x in (1, 2)`, `isinstance(x, (A, B))`, `s.startswith(("a", "b"))`, `except (A, B)`. That covers comments, blanks,
parentheses, folded constants, annotations of local variables, and code that the compiler drops because nothing
reaches it.
"""

import ast
import codecs
import dis
import posixpath
import re
from functools import lru_cache
from types import CodeType
from typing import Any

from swe_aem.core.python_source import parsed_module
from swe_aem.preflight.source_text import code_of, is_known

_SUFFIXES = (".md", ".rst", ".adoc", ".pyi", ".po", ".pot")
_NAMES = re.compile(
    r"(?:changes|changelog|history|news|authors|contributors|credits|copying|licen[cs]e|readme)(?:\.txt)?"
    r"|conftest\.py|test_[^/]*\.\w+|[^/]*_test\.\w+",
    re.IGNORECASE,
)
_DIRECTORIES = re.compile(
    r"^(?:docs?|changelogs?|changelog\.d|newsfragments|releasenotes)/|(?:^|/)(?:tests|__tests__)/"
)


def runs_nothing(path: str) -> bool:
    """Is the file documentation, a translation, a type stub or a test, by its name: nothing that production runs?"""
    name = posixpath.basename(path)
    named = name.lower().endswith(_SUFFIXES) or _NAMES.fullmatch(name) is not None
    return named or _DIRECTORIES.search(path) is not None


def meaning(path: str, content: bytes) -> object:
    """Equal for contents of one file that are the same program; the content itself where nothing better is known.

    Raises `SyntaxError` for Python that cannot be parsed.
    """
    if path.endswith(".py"):
        try:
            return _python_meaning(content)
        except (ValueError, RecursionError):  # null bytes, or nested too deeply for this Python
            return content
    if not is_known(path):
        return content
    try:
        return code_of(path, content.decode())
    except UnicodeDecodeError:
        return content


def _python_meaning(content: bytes) -> object:
    """Statement by statement: two texts of one file have most of them in common, and a large one takes a second."""
    tree = parsed_module(content)
    try:
        content.decode()
    except UnicodeDecodeError:  # its encoding is said in its first lines
        return _signature(compile(_Bare().visit(tree), "", "exec", dont_inherit=True))
    lines = content.removeprefix(codecs.BOM_UTF8).splitlines(keepends=True)
    found = []
    for statement in tree.body:
        first = min([statement.lineno, *(one.lineno for one in getattr(statement, "decorator_list", ()))])
        found.append(_statement_meaning(b"".join(lines[first - 1 : statement.end_lineno])))
    return tuple(one for one in found if one is not None)


@lru_cache(maxsize=4096)
def _statement_meaning(text: bytes) -> object:
    """None for a text that stands alone: a docstring, or no program."""
    tree = parsed_module(text)
    if all(isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant) for one in tree.body):
        return None
    return _signature(compile(_Bare().visit(tree), "", "exec", dont_inherit=True))


_OF_ALTERNATIVES = {"isinstance": 1, "issubclass": 1, "startswith": 0, "endswith": 0}
"""Functions and methods one of whose arguments, the one at that place, may be a tuple of alternatives."""


class _Bare(ast.NodeTransformer):
    """Removes docstrings and what only type checkers read, and sorts alternatives."""

    def visit_Module(self, node: ast.Module) -> ast.AST:
        return self._without_docstring(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._without_docstring(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._without_docstring(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._without_docstring(node)

    def visit_If(self, node: ast.If) -> ast.AST:
        test = node.test
        name = test.id if isinstance(test, ast.Name) else test.attr if isinstance(test, ast.Attribute) else ""
        if name == "TYPE_CHECKING":
            node.body = [ast.copy_location(ast.Pass(), node)]
        self.generic_visit(node)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        for operator, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(operator, ast.In | ast.NotIn):
                _sort(right)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        function = node.func
        name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
        at = _OF_ALTERNATIVES.get(name, len(node.args))
        if at < len(node.args):
            _sort(node.args[at])
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        self.generic_visit(node)
        if node.type is not None:
            _sort(node.type)
        return node

    def _without_docstring(self, node: Any) -> ast.AST:
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.copy_location(ast.Pass(), node.body[0])]
        self.generic_visit(node)
        return node


def _sort(node: ast.expr) -> None:
    """Sort the constants and names of a tuple, list or set."""
    elements = node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else []
    if all(isinstance(one, ast.Constant | ast.Name) for one in elements):
        elements.sort(key=ast.dump)


def _signature(code: CodeType) -> tuple[object, ...]:
    """What a code object does: its instructions without the lines that they stand on, and without names and constants
    that no instruction uses."""
    instructions = tuple((one.opname, _value(one.argval)) for one in dis.get_instructions(code))
    arguments = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    named = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return (code.co_name, arguments, named, instructions, getattr(code, "co_exceptiontable", b""))


def _value(value: object) -> object:
    return _signature(value) if isinstance(value, CodeType) else (type(value).__name__, repr(value))
