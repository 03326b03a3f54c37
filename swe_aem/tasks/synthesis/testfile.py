"""Edits and quotes test files: removes tests, and shows the code of a failing test."""

import ast
import builtins
import textwrap
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from swe_aem.core.python_source import parsed_module

LONGEST_EXAMPLE = 3000
"""Maximum length of an example in characters; a longer one is hard to read."""
_SETUP = ("setUp", "setup_method")
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Kind = TypeVar("_Kind", ast.FunctionDef, ast.ClassDef)


def definition(test: str) -> tuple[str, str]:
    """File and qualified name of a test from pytest's id: `a/test_b.py::C::test_d[1-x]` is `C::test_d` in its file."""
    path, _, name = test.partition("::")
    return path, name.partition("[")[0]


def cut_tests(text: str, names: Collection[str]) -> str:
    """The file without the named test functions, decorators and the blank lines behind them included.

    A name is that of a function, or `Class::function`. A class that has nothing else gets a `pass`. Raises
    `LookupError` if the file does not define one of them.
    """
    lines = text.splitlines(keepends=True)
    missing = set(names)
    edits: list[tuple[int, int, list[str]]] = []
    for prefix, body, end in _bodies(parsed_module(text), "", len(lines)):
        cut = [statement for statement in body if isinstance(statement, _Function) and prefix + statement.name in names]
        missing -= {prefix + statement.name for statement in cut}
        for statement in cut:
            position = body.index(statement)
            following = _first_line(body[position + 1]) if position + 1 < len(body) else end + 1
            stays_empty = prefix and len(cut) == len(body) and position == 0
            left = [" " * statement.col_offset + "pass\n"] if stays_empty else []
            edits.append((_first_line(statement) - 1, following - 1, left))
    if missing:
        raise LookupError(f"not defined there: {', '.join(sorted(missing))}")
    for start, stop, left in sorted(edits, reverse=True):
        lines[start:stop] = left
    return "".join(lines).rstrip() + "\n"


def _bodies(node: ast.Module | ast.ClassDef, prefix: str, end: int) -> Iterator[tuple[str, list[ast.stmt], int]]:
    """Bodies of the module and its classes: prefix of names in it, statements, last line."""
    yield prefix, node.body, end
    for statement in node.body:
        if isinstance(statement, ast.ClassDef):
            yield from _bodies(statement, f"{prefix}{statement.name}::", statement.end_lineno or end)


def _first_line(statement: ast.stmt) -> int:
    decorators = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(decorator.lineno for decorator in decorators)])


class Snippet(NamedTuple):
    """A piece of code for an example."""

    text: str
    nodes: tuple[ast.AST, ...]


class FailingTest:
    """One test function and the statement in it that failed; raises `LookupError` if the file does not hold them."""

    def __init__(self, text: str, name: str, line: int, parameters: Mapping[str, str] | None = None) -> None:
        self._text = text
        self._module = parsed_module(text).body
        self._parameters = parameters or {}
        *classes, function = name.split("::")
        body = self._module
        self._class: list[ast.stmt] = []
        for wanted in classes:
            body = self._class = _named(body, wanted, ast.ClassDef).body
        self._function = _named(body, function, ast.FunctionDef)
        body = [statement for statement in self._function.body if not _is_docstring(statement)]
        found = next((node for node in body if node.lineno <= line <= (node.end_lineno or 0)), None)
        if found is None:
            raise LookupError(f"{name} has no line {line}")
        self.statement = found
        """The statement of the test that failed."""
        self.before = [node for node in body[: body.index(found)] if not _is_unittest_assertion(node)]
        """The statements that ran before it, without those that only assert something in unittest's way."""

    def source(self, node: ast.AST) -> str:
        """The text of a node, without its indentation."""
        segment = ast.get_source_segment(self._text, node, padded=True)
        return textwrap.dedent(segment or "")

    def snippet(self, node: ast.AST) -> Snippet:
        """The source of a node, or unparsed text if it is not in the file."""
        return Snippet(self.source(node) if hasattr(node, "lineno") else ast.unparse(node), (node,))

    def called(self, public: Collection[str]) -> str | None:
        """The outermost function of `public` that the failing statement calls, else one that the test calls at all."""
        for statement in [self.statement, *reversed(self.before)]:
            for node in _breadth_first(statement):
                if isinstance(node, ast.Call) and (name := _called_name(node)) in public:
                    return name
        return None

    def example(self, *last: Snippet) -> str:
        """Code that shows the failure: imports, helpers and constants that it needs, what ran before, then `last`.

        Raises `LookupError` if that does not stand alone: it uses a fixture, a method of the test's class, or what the
        file gets in another way than by a plain import.
        """
        own = [*(self.snippet(node) for node in self.before), *last]
        shown = [*self._arguments(own), *self._prepared(own), *own]
        needed = self._needed([node for snippet in shown for node in snippet.nodes])
        nodes = [*needed, *(node for snippet in shown for node in snippet.nodes)]
        used = {name for node in nodes for name in _names(node)}
        imports = self._imports(used)
        unknown = used - imports.keys() - {name for node in nodes for name in _bound(node)} - set(dir(builtins))
        if unknown:
            raise LookupError(f"it also needs {', '.join(sorted(unknown))}")
        blocks = ["".join(f"{line}\n" for line in dict.fromkeys(imports.values()))]
        blocks += [self.source(node) + "\n" for node in needed]
        blocks.append("".join(snippet.text + "\n" for snippet in shown))
        code = "\n".join(block for block in blocks if block).rstrip("\n")
        try:
            parsed_module(code)
        except SyntaxError as error:
            raise LookupError("a part of an expression that needs its brackets") from error
        if len(code) > LONGEST_EXAMPLE:
            raise LookupError("it is too long")
        return code

    def depends(self, node: ast.AST) -> bool:
        """Does it use the test's parameters or its class?"""
        return bool({*self._parameters, "self"}.intersection(_names(node)))

    def _arguments(self, shown: Sequence[Snippet]) -> Iterator[Snippet]:
        """Assignments of the parameters that are used."""
        used = {name for snippet in shown for node in snippet.nodes for name in _names(node)}
        for name, value in self._parameters.items():
            if name in used:
                yield _parsed(f"{name} = {value}")

    def _prepared(self, shown: Sequence[Snippet]) -> Iterator[Snippet]:
        """Code that replaces `self`: attributes of its class, and its `setUp`."""
        nodes = [node for snippet in shown for node in snippet.nodes]
        if not any("self" in _names(node) for node in nodes):
            return
        setups = [node for node in self._class if isinstance(node, ast.FunctionDef) and node.name in _SETUP]
        steps = [step for setup in setups for step in setup.body if not _is_docstring(step)]
        wanted = {name for node in [*steps, *nodes] for name in _attributes_of_self(node)}
        known = {name for node in [*steps, *nodes] for name in _attributes_of_self(node, stored=True)}
        yield _parsed("from types import SimpleNamespace\n\nself = SimpleNamespace()")
        for node in self._class:
            if isinstance(node, ast.Assign) and (names := wanted.intersection(_bound(node))):
                known |= names
                yield from (_parsed(f"self.{name} = {self.source(node.value)}") for name in sorted(names))
        yield from (self.snippet(step) for step in steps)
        if wanted - known:
            raise LookupError(f"it also needs self.{', self.'.join(sorted(wanted - known))}")

    def _needed(self, shown: Sequence[ast.AST]) -> list[ast.stmt]:
        """Functions, classes and constants of the module that the shown code uses, and what those use."""
        used = {name for node in shown for name in _names(node)}
        needed: list[ast.stmt] = []
        while found := [node for node in self._module if node not in needed and used.intersection(_defined(node))]:
            needed += found
            used |= {name for node in found for name in _names(node)}
        return [node for node in self._module if node in needed]

    def _imports(self, used: Collection[str]) -> dict[str, str]:
        """Names in use that the module imports, and a line that imports them."""
        lines: dict[str, str] = {}
        for node in self._module:
            if isinstance(node, ast.ImportFrom) and not node.level:
                aliases = [alias for alias in node.names if (alias.asname or alias.name) in used]
                line = f"from {node.module} import {', '.join(_imported(alias) for alias in aliases)}"
                lines |= {alias.asname or alias.name: line for alias in aliases}
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if (name := alias.asname or alias.name.partition(".")[0]) in used:
                        lines[name] = f"import {_imported(alias)}"
        return lines


def _named(body: Sequence[ast.stmt], name: str, kind: type[_Kind]) -> _Kind:
    """The definition of that name; the last one, as in Python."""
    found = [node for node in body if isinstance(node, kind) and node.name == name]
    if not found:
        raise LookupError(f"{name} is not defined there")
    return found[-1]


def _parsed(text: str) -> Snippet:
    try:
        return Snippet(text, tuple(parsed_module(text).body))
    except SyntaxError as error:
        raise LookupError(f"{text} is no code") from error


def _is_docstring(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _is_unittest_assertion(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.Expr) or not isinstance(call := statement.value, ast.Call):
        return False
    return ast.unparse(call.func).startswith("self.assert")


def _imported(alias: ast.alias) -> str:
    return f"{alias.name} as {alias.asname}" if alias.asname else alias.name


def _defined(node: ast.stmt) -> list[str]:
    """Names that a statement of a module defines, imports left out."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    return [ast.unparse(target) for target in node.targets] if isinstance(node, ast.Assign) else []


def _called_name(call: ast.Call) -> str | None:
    """Last part of the name of what is called."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else None


def _breadth_first(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below a node, outer ones first."""
    waiting = deque([node])
    while waiting:
        current = waiting.popleft()
        yield current
        waiting.extend(ast.iter_child_nodes(current))


def _names(node: ast.AST) -> set[str]:
    """Plain names in a node."""
    return {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}


def _bound(node: ast.AST) -> Iterator[str]:
    """Names that a node binds anywhere in it: by assignment, definition, import, argument or `except`."""
    for child in ast.walk(node):
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            yield child.id
        elif isinstance(child, ast.FunctionDef | ast.ClassDef):
            yield child.name
        elif isinstance(child, ast.arg):
            yield child.arg
        elif isinstance(child, ast.alias):
            yield child.asname or child.name.partition(".")[0]
        elif isinstance(child, ast.ExceptHandler) and child.name:
            yield child.name


def _attributes_of_self(node: ast.AST, *, stored: bool = False) -> Iterator[str]:
    """Attributes of `self` that a node uses, or only those that it sets."""
    for child in ast.walk(node):
        if isinstance(child, ast.Attribute) and isinstance(child.value, ast.Name) and child.value.id == "self":
            found = not stored or isinstance(child.ctx, ast.Store)
            yield from [child.attr] if found else []
