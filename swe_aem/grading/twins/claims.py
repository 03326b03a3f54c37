"""The assertions of a test that can be contradicted: no code passes the test both before and after the edit.

An assertion counts only if every run of the test that passes has come to it: it lies in the body of the test itself, in
a `with` that swallows nothing, or in a loop over literals that are there. Inequalities, tolerances, mocks and snapshots
are left alone: another value may satisfy them too, or nobody can say which would not.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from swe_aem.grading.twins.source import Edit, Function, Source, identifiers, loads, stores
from swe_aem.grading.twins.values import called, has_leaf, is_literal, other_value

_EQUAL_METHODS = frozenset(
    [
        "assertEqual",
        "assertEquals",
        "assertListEqual",
        "assertTupleEqual",
        "assertDictEqual",
        "assertSetEqual",
        "assertSequenceEqual",
        "assertMultiLineEqual",
        "assertCountEqual",
        "assertItemsEqual",
        "assertStrEqual",
        "assertJSONEqual",
        "assert_equal",
        "assert_equals",
        "assert_array_equal",
        "assert_string_equal",
        "eq_",
    ]
)
_PLAIN_EQUAL = frozenset(["assert_equal", "assert_equals", "eq_"])
_OPPOSITES = {
    "assertEqual": "assertNotEqual",
    "assertEquals": "assertNotEqual",
    "assertListEqual": "assertNotEqual",
    "assertTupleEqual": "assertNotEqual",
    "assertDictEqual": "assertNotEqual",
    "assertSetEqual": "assertNotEqual",
    "assertMultiLineEqual": "assertNotEqual",
    "assertNotEqual": "assertEqual",
    "assertTrue": "assertFalse",
    "assertFalse": "assertTrue",
    "assertIn": "assertNotIn",
    "assertNotIn": "assertIn",
    "assertIs": "assertIsNot",
    "assertIsNot": "assertIs",
    "assertIsNone": "assertIsNotNone",
    "assertIsNotNone": "assertIsNone",
    "assertIsInstance": "assertNotIsInstance",
    "assertNotIsInstance": "assertIsInstance",
    "assertRegex": "assertNotRegex",
    "assertNotRegex": "assertRegex",
}
_RAISES = frozenset(["raises", "assertRaises", "assertRaisesRegex", "assertRaisesRegexp", "assertRaisesMessage"])
_WARNS = frozenset(["warns", "assertWarns", "assertWarnsRegex"])
_CATCHES = _RAISES | _WARNS | frozenset(["suppress", "assertLogs", "ExitStack", "AsyncExitStack", "skip_if_raises"])
_OPERATORS = {ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="), ast.Is: ("is", "is not"), ast.In: ("in", "not in")}
_ORDERINGS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
_UNSURE = re.compile(
    r"(?i)approx\w*|\w*(?:allclose|isclose|almost_?equal)\w*|[ra]tol|tolerance|\w*snapshot\w*|\w*mock\w*|called|call_count"
    r"|call_args(?:_list)?|method_calls|await_count|assert_called\w*|assert_has_calls"
)
"""Names in an assertion that is left alone."""
_LEFT_MARKS = re.compile(r"\b(?:given|flaky|xfail|skip|skipif|skipIf|skipUnless|expectedFailure|rerun\w*|benchmark)\b")

LITERAL, NAMED_LITERAL, PARTLY_LITERAL, EXCEPTION, NEGATION = range(5)
"""How an assertion is contradicted, the most telling first: only another literal is seen by code that reads it."""


@dataclass(frozen=True)
class Claim:
    """A contradiction of one assertion."""

    kind: int
    edits: tuple[Edit, ...]
    """Empty where the literal is that of a parametrized argument."""
    names: frozenset[str]
    """What the assertion mentions, with what the variables in it were made of."""
    argument: str = ""
    """The argument of the test whose literal it is compared with."""
    calls: frozenset[str] = frozenset()
    """The calls with arguments in the assertion, as text."""

    def is_public(self, statement: str) -> bool:
        """Does a normalised problem statement show one of its calls? Then it may show what is expected of it, too."""
        return any(call in statement for call in self.calls)


def normalised(text: str) -> str:
    """Text in which a call looks as `Claim.calls` writes it, wherever lines are broken and whatever the quotes are."""
    return re.sub(r"\s+", "", text).replace('"', "'")


def left_alone(function: Function) -> str | None:
    """Why a test has no twin, whatever its assertions are."""
    for decorator in function.decorator_list:
        if _LEFT_MARKS.search(ast.unparse(decorator).partition("(")[0]):
            return f"it is marked {ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator)}"
    if any(isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(function)):
        return "it is a generator"
    return None


def claims_of(source: Source, function: Function) -> list[Claim]:
    """Every contradiction that can be made of one assertion of a test, in the order of the text."""
    return [
        replace(claim, calls=_calls(statement))
        for statement, loops in _certain(source, function)
        for claim in _Reader(source, function, loops).read(statement)
    ]


def _calls(statement: ast.stmt) -> frozenset[str]:
    found = (node for node in ast.walk(statement) if isinstance(node, ast.Call))
    return frozenset(normalised(ast.unparse(call)) for call in found if call.args or call.keywords)


def _certain(source: Source, function: Function) -> Iterator[tuple[ast.stmt, tuple[ast.For, ...]]]:
    """Statements that run whenever the test passes, each with the loops that it lies in."""

    def inside(body: Sequence[ast.stmt], loops: tuple[ast.For, ...]) -> Iterator[tuple[ast.stmt, tuple[ast.For, ...]]]:
        for statement in body:
            yield statement, loops
            match statement:
                case ast.With() | ast.AsyncWith() if not _swallows(statement):
                    yield from inside(statement.body, loops)
                case ast.For() if _never_empty(source, function, statement.iter):
                    yield from inside(statement.body, (*loops, statement))
                case ast.Try(handlers=[]):
                    yield from inside(statement.body, loops)
                case _:
                    pass
            if _may_leave(statement):
                return

    yield from inside(function.body, ())


def _swallows(statement: ast.With | ast.AsyncWith) -> bool:
    return any(identifiers(item.context_expr) & _CATCHES for item in statement.items)


def _may_leave(statement: ast.stmt) -> bool:
    """May what follows the statement not be run although nothing failed?"""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return False
    todo: list[ast.AST] = [statement]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Return | ast.Break | ast.Continue):
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            todo += ast.iter_child_nodes(node)
    return False


def _rows(source: Source, function: Function, iterated: ast.expr) -> list[ast.expr]:
    """The rows of a loop over a literal list or tuple, written there or bound to a name that is used once."""
    if isinstance(iterated, ast.Name):
        bound = _bound_once(source, function, iterated.id)
        iterated = bound if bound is not None else iterated
    if isinstance(iterated, ast.List | ast.Tuple) and not any(isinstance(row, ast.Starred) for row in iterated.elts):
        return iterated.elts
    return []


def _never_empty(source: Source, function: Function, iterated: ast.expr) -> bool:
    """Does a loop over this run at least once?"""
    match iterated:
        case ast.List(elts=elements) | ast.Tuple(elts=elements) | ast.Set(elts=elements):
            return any(not isinstance(element, ast.Starred) for element in elements)
        case ast.Dict(keys=keys):
            return any(key is not None for key in keys)
        case ast.Constant(value=str() | bytes() as text):
            return bool(text)
        case ast.Call(func=ast.Name(id="range"), args=[ast.Constant(value=int() as count)]):
            return count > 0
        case ast.Call(func=ast.Name(id="enumerate" | "sorted" | "reversed" | "list" | "zip"), args=parts) if parts:
            return all(_never_empty(source, function, part) for part in parts)
        case ast.Call(func=ast.Attribute(value=table, attr="items" | "keys" | "values"), args=[]):
            return _never_empty(source, function, table)
        case ast.Name(id=name):
            bound = _bound_once(source, function, name) or _constant(source, function, name)
            return bound is not None and not isinstance(bound, ast.Name) and _never_empty(source, function, bound)
        case _:
            return False


def _constant(source: Source, function: Function, name: str) -> ast.expr | None:
    """What a module binds a name to once, that the function does not bind."""
    arguments = {argument.arg for argument in ast.walk(function.args) if isinstance(argument, ast.arg)}
    if name in arguments or stores(function, name) or stores(source.tree, name) != 1:
        return None
    return _assigned(source.tree.body, name)


def _assigned(body: Sequence[ast.stmt], name: str) -> ast.expr | None:
    for statement in body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=bound)], value=value) if bound == name:
                return value
            case ast.AnnAssign(target=ast.Name(id=bound), value=ast.expr() as value) if bound == name:
                return value
            case _:
                pass
    return None


def _bound_once(source: Source, function: Function, name: str) -> ast.expr | None:
    """The expression that a name stands for, if it is bound once, and used once: here."""
    arguments = {argument.arg for argument in ast.walk(function.args) if isinstance(argument, ast.arg)}
    if name in arguments:
        return None
    local = stores(function, name) > 0
    scope, body = (function, function.body) if local else (source.tree, source.tree.body)
    if stores(scope, name) != 1 or loads(scope, name) != 1 or (not local and loads(function, name) != 1):
        return None
    return _assigned(body, name)


class _Reader:
    """Reads the claims of one statement."""

    def __init__(self, source: Source, function: Function, loops: tuple[ast.For, ...]) -> None:
        self._source = source
        self._function = function
        self._loops = loops

    def read(self, statement: ast.stmt) -> Iterator[Claim]:
        """The claims of a statement."""
        match statement:
            case ast.Assert(test=test):
                if not self._unsure(test):
                    yield from self._assertion(test)
            case ast.Expr(value=ast.Call() as call) | ast.Expr(value=ast.Await(value=ast.Call() as call)):
                yield from self._call(call)
            case ast.With() | ast.AsyncWith():
                for item in statement.items:
                    if isinstance(item.context_expr, ast.Call):
                        yield from self._raises(item.context_expr, identifiers(*statement.body))
            case _:
                return

    def _unsure(self, *nodes: ast.expr) -> bool:
        if any(map(_UNSURE.fullmatch, identifiers(*nodes))):
            return True
        return any(
            isinstance(inner, ast.Compare) and any(isinstance(operator, _ORDERINGS) for operator in inner.ops)
            for node in nodes
            for inner in ast.walk(node)
        )

    def _assertion(self, test: ast.expr) -> Iterator[Claim]:
        match test:
            case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
                yield from self._equality(left, right)
            case ast.BoolOp(op=ast.And()):
                for part in test.values:
                    yield from self._assertion(part)
                return
            case ast.Call(func=ast.Name(id="all"), args=[ast.List() | ast.Tuple() as parts]):
                for part in parts.elts:
                    yield from self._assertion(part)
                return
            case _:
                pass
        if identifiers(test):
            yield Claim(NEGATION, self._negated(test), self._mentions(test))

    def _negated(self, test: ast.expr) -> tuple[Edit, ...]:
        """The edits that turn a condition into its opposite."""
        start, end = self._source.span(test)
        if isinstance(test, ast.Compare) and len(test.ops) == 1 and type(test.ops[0]) in _OPERATORS:
            old, new = _OPERATORS[type(test.ops[0])]
            after, before = self._source.span(test.left)[1], self._source.span(test.comparators[0])[0]
            gap = self._source.data[after:before]
            found = re.fullmatch(rb"[\s)\\]*?(" + re.escape(old.encode()) + rb")[\s(\\]*", gap)
            if found is not None:
                return (Edit(after + found.start(1), after + found.end(1), new.encode()),)
        return Edit(start, start, b"(not ("), Edit(end, end, b"))")

    def _equality(self, left: ast.expr, right: ast.expr) -> Iterator[Claim]:
        """The claims of two sides that are compared, the one with another literal on one side."""
        names = self._mentions(left, right)
        sides = [(side, other) for side, other in ((right, left), (left, right)) if not is_literal(other)]
        sides.sort(key=lambda pair: not is_literal(pair[0]))  # a stable order: the right side first among equals
        for side, _ in sides:
            if has_leaf(side):
                edit = other_value(self._source, side)
                if edit is not None:
                    yield Claim(LITERAL if is_literal(side) else PARTLY_LITERAL, (edit,), names)
                    return
        for side, other in sides:
            if isinstance(side, ast.Name) and side.id not in identifiers(other):
                claim = self._named(side.id, names)
                if claim is not None:
                    yield claim
                    return

    def _named(self, name: str, names: frozenset[str]) -> Claim | None:
        """The claim where one side is a name for a literal."""
        if loads(self._function, name) != 1:
            return None
        for loop in self._loops:
            for row in _rows(self._source, self._function, loop.iter)[:1]:
                cell = _cell(loop.target, row, name)
                if cell is not None and stores(self._function, name) == 1:
                    edit = other_value(self._source, cell)
                    return Claim(NAMED_LITERAL, (edit,), names) if edit is not None else None
        if name in (argument.arg for argument in (*self._function.args.args, *self._function.args.kwonlyargs)):
            return Claim(NAMED_LITERAL, (), names, argument=name) if not stores(self._function, name) else None
        value = _bound_once(self._source, self._function, name)
        edit = other_value(self._source, value) if value is not None else None
        return Claim(NAMED_LITERAL, (edit,), names) if edit is not None else None

    def _call(self, call: ast.Call) -> Iterator[Claim]:
        name = called(call.func)
        if name in _RAISES | _WARNS:
            yield from self._raises(call, set())
            return
        if self._unsure(call) or any(isinstance(argument, ast.Starred) for argument in call.args):
            return
        if name in _EQUAL_METHODS and len(call.args) >= 2:
            yield from self._equality(call.args[0], call.args[1])
        if name == "assertTrue" and call.args and isinstance(call.args[0], ast.Compare):
            yield from (claim for claim in self._assertion(call.args[0]) if claim.kind != NEGATION)
        if name in _PLAIN_EQUAL and len(call.args) == 2 and not call.keywords:
            start, end = self._source.span(call.func)
            unequal = Edit(start, end, b"assert (lambda one, other: one != other)")
            yield Claim(NEGATION, (unequal,), self._mentions(*call.args))
        if name in _OPPOSITES and isinstance(call.func, ast.Attribute) and not all(map(is_literal, call.args)):
            end = self._source.span(call.func)[1]
            edit = Edit(end - len(name), end, _OPPOSITES[name].encode())
            if self._source.data[edit.start : end] == name.encode():
                yield Claim(NEGATION, (edit,), self._mentions(*call.args))

    def _raises(self, call: ast.Call, body: set[str]) -> Iterator[Claim]:
        """The claim that another exception, or another kind of warning, comes."""
        name = called(call.func)
        if name not in _RAISES | _WARNS or not call.args:
            return
        wanted = call.args[0]
        given = identifiers(wanted)
        if not isinstance(wanted, ast.Name | ast.Attribute | ast.Tuple) or not given:
            return
        above = {"Exception", "BaseException", "Warning"}
        choices = ("BufferError", "ReferenceError") if name in _RAISES else ("BytesWarning", "ImportWarning")
        other = next((choice for choice in choices if choice not in given), None)
        if other is not None and not given & above:
            start, end = self._source.span(wanted)
            yield Claim(EXCEPTION, (Edit(start, end, other.encode()),), self._mentions(*call.args[1:]) | body)

    def _mentions(self, *nodes: ast.expr) -> frozenset[str]:
        """Names in the nodes, and in what their variables were made of."""
        names = identifiers(*nodes)
        for statement in ast.walk(self._function):
            if isinstance(statement, ast.Assign) and identifiers(*statement.targets) & names:
                names |= identifiers(statement.value)
        return frozenset(names)


def _cell(target: ast.expr, row: ast.expr, name: str) -> ast.expr | None:
    """The part of a row that a loop binds to `name`."""
    if isinstance(target, ast.Name):
        return row if target.id == name else None
    if isinstance(target, ast.Tuple | ast.List) and isinstance(row, ast.Tuple | ast.List):
        if len(target.elts) != len(row.elts):
            return None
        for inner, cell in zip(target.elts, row.elts, strict=True):
            found = _cell(inner, cell, name)
            if found is not None:
                return found
    return None
