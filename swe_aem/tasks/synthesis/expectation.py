"""What a statement of a test expects, in pytest's or in unittest's style."""

import ast
from dataclasses import dataclass

_COMPARISONS: dict[str, ast.cmpop] = {
    "assertIn": ast.In(),
    "assertNotIn": ast.NotIn(),
    "assertIs": ast.Is(),
    "assertIsNot": ast.IsNot(),
    "assertNotEqual": ast.NotEq(),
    "assertGreater": ast.Gt(),
    "assertGreaterEqual": ast.GtE(),
    "assertLess": ast.Lt(),
    "assertLessEqual": ast.LtE(),
}
_EQUATIONS = ("assertEqual", "assertEquals", "assertListEqual", "assertDictEqual", "assertTupleEqual", "assertSetEqual")
_RAISES = ("pytest.raises", "raises", "self.assertRaises", "self.assertRaisesRegex")


@dataclass(frozen=True)
class Equal:
    """Two values must be equal."""

    left: ast.expr
    right: ast.expr


@dataclass(frozen=True)
class Raises:
    """An exception must be raised."""

    exception: str
    pattern: str | None
    """Regular expression that its message must match."""
    shown: tuple[ast.AST, ...]
    """The code that should raise it."""


@dataclass(frozen=True)
class Truth:
    """A condition must be true, or must be false."""

    condition: ast.expr
    wanted: bool


Expectation = Equal | Raises | Truth


def expectation(statement: ast.stmt) -> Expectation | None:
    """The expectation of a statement; None if it only must not fail."""
    if isinstance(statement, ast.Assert):
        return _asserted(statement.test)
    if isinstance(statement, ast.With):
        return _raises(statement.items[0].context_expr, statement.body)
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        return _raises(statement.value, []) or _unittest(statement.value)
    return None


def _asserted(condition: ast.expr) -> Expectation:
    if isinstance(condition, ast.Compare) and len(condition.ops) == 1 and isinstance(condition.ops[0], ast.Eq):
        return Equal(condition.left, condition.comparators[0])
    if isinstance(condition, ast.UnaryOp) and isinstance(condition.op, ast.Not):
        return Truth(condition.operand, False)
    return Truth(condition, True)


def _raises(call: ast.expr, body: list[ast.stmt]) -> Raises | None:
    """`with raises(E, match="..."): ...`, or `raises(E, function, *arguments)`."""
    if not isinstance(call, ast.Call) or ast.unparse(call.func) not in _RAISES or not call.args:
        return None
    exception, *rest = call.args
    pattern = next((keyword.value for keyword in call.keywords if keyword.arg == "match"), None)
    if ast.unparse(call.func).endswith("Regex") and rest:
        pattern, *rest = rest
    shown: tuple[ast.AST, ...] = tuple(body)
    if not body and rest:
        function, *arguments = rest
        keywords = [keyword for keyword in call.keywords if keyword.arg != "match"]
        shown = (ast.Call(func=function, args=arguments, keywords=keywords),)
    if not shown:
        return None
    text = pattern.value if isinstance(pattern, ast.Constant) and isinstance(pattern.value, str) else None
    return Raises(ast.unparse(exception), text, shown)


def _unittest(call: ast.Call) -> Expectation | None:
    if not isinstance(call.func, ast.Attribute) or ast.unparse(call.func.value) != "self":
        return None
    name, arguments = call.func.attr, call.args
    if name in _EQUATIONS and len(arguments) >= 2:
        return Equal(arguments[0], arguments[1])
    if name in _COMPARISONS and len(arguments) >= 2:
        return Truth(ast.Compare(arguments[0], [_COMPARISONS[name]], [arguments[1]]), True)
    if name in ("assertTrue", "assertFalse") and arguments:
        return Truth(arguments[0], name == "assertTrue")
    if name in ("assertIsNone", "assertIsNotNone") and arguments:
        return Truth(ast.Compare(arguments[0], [ast.Is()], [ast.Constant(None)]), name == "assertIsNone")
    if name == "assertIsInstance" and len(arguments) >= 2:
        return Truth(ast.Call(ast.Name("isinstance", ast.Load()), arguments[:2], []), True)
    return None
