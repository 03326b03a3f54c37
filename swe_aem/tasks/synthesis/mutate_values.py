"""Mutation rules for expressions: operators, comparisons, constants, boundaries, swapped values."""

import ast
from collections.abc import Iterator
from itertools import pairwise

from swe_aem.tasks.synthesis.source import Edit, Source

_BINARY: dict[type[ast.operator], tuple[str, tuple[str, ...]]] = {
    ast.Add: ("+", ("-",)),
    ast.Sub: ("-", ("+",)),
    ast.Mult: ("*", ("+", "//")),
    ast.Div: ("/", ("*", "//")),
    ast.FloorDiv: ("//", ("*", "%")),
    ast.Mod: ("%", ("//",)),
    ast.Pow: ("**", ("*",)),
    ast.LShift: ("<<", (">>",)),
    ast.RShift: (">>", ("<<",)),
    ast.BitAnd: ("&", ("|",)),
    ast.BitOr: ("|", ("&",)),
    ast.BitXor: ("^", ("&",)),
}
_COMPARE: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Lt: ("<", ">="),
    ast.LtE: ("<=", ">"),
    ast.Gt: (">", "<="),
    ast.GtE: (">=", "<"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
}
_BOUNDARY: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
}
_ORDERED = (ast.Sub, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)
"""Binary operators whose operands must not be swapped."""
_ATOMS = (ast.Name, ast.Attribute, ast.Subscript, ast.Call, ast.Constant)
"""Nodes that never need parentheses."""


def operators(node: ast.AST, source: Source) -> Iterator[Edit]:
    """Another arithmetic or logical operator, a dropped `not` or minus sign."""
    if isinstance(node, ast.BinOp):
        symbol, others = _BINARY.get(type(node.op), ("", ()))
        for other in others:
            yield from _one(source.replace_between(node.left, node.right, symbol, other))
    elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add | ast.Sub | ast.Mult):
        symbol, others = _BINARY[type(node.op)]
        yield from _one(source.replace_between(node.target, node.value, symbol + "=", others[0] + "="))
    elif isinstance(node, ast.BoolOp):
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in pairwise(node.values):
            yield from _one(source.replace_between(left, right, old, new))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield Edit(source.start(node), source.start(node.operand), "")


def comparisons(node: ast.AST, source: Source) -> Iterator[Edit]:
    """A comparison turned into its opposite."""
    yield from _compare(node, source, _COMPARE)


def boundaries(node: ast.AST, source: Source) -> Iterator[Edit]:
    """Off by one: a boundary included or excluded, a number in a bound, index, slice or sum changed by one."""
    yield from _compare(node, source, _BOUNDARY)
    for part in _bounds(node):
        if isinstance(part, ast.Constant) and type(part.value) is int:
            yield source.replace(part, str(part.value + 1))
            if part.value > 0:
                yield source.replace(part, str(part.value - 1))
        elif isinstance(part, _ATOMS) and not isinstance(part, ast.Constant):
            yield source.replace(part, f"{source.text(part)} + 1")
            yield source.replace(part, f"{source.text(part)} - 1")


def _bounds(node: ast.AST) -> list[ast.expr]:
    """Parts of a node that are bounds."""
    if isinstance(node, ast.Compare):
        return [part for part in [node.left, *node.comparators] if _is_int(part)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        return [part for part in (node.left, node.right) if _is_int(part)]
    if isinstance(node, ast.Slice):
        return [part for part in (node.lower, node.upper) if part is not None]
    if isinstance(node, ast.Subscript) and not isinstance(node.slice, ast.Name):
        return [node.slice] if _is_int(node.slice) else []
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("range", "max", "min"):
        return [part for part in node.args if node.func.id == "range" or _is_int(part)]
    return []


def constants(node: ast.AST, source: Source) -> Iterator[Edit]:
    """Another number, truth value or string."""
    if not isinstance(node, ast.Constant):
        return
    if isinstance(node.value, bool):
        yield source.replace(node, str(not node.value))
    elif isinstance(node.value, int):
        for value in (1, 2) if node.value == 0 else (0, 2) if node.value == 1 else (node.value * 2, node.value - 1):
            yield source.replace(node, str(value))
    elif isinstance(node.value, float):
        yield source.replace(node, str(node.value + 1.0))
    elif isinstance(node.value, str):
        written = source.text(node)
        if not written.startswith('"') or written.startswith('"""'):
            return
        inside = written[1:-1]
        yield source.replace(node, '""' if inside else '" "')
        if len(inside) > 1 and "\\" not in inside:
            yield source.replace(node, f'"{inside[:-1]}"')


def quoted_constants(node: ast.AST, source: Source) -> Iterator[Edit]:
    """Another string in place of one in single quotes, which `constants` leaves alone."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        written = source.text(node)
        if written.startswith("'") and not written.startswith("'''"):
            yield source.replace(node, "''" if node.value else "' '")


def swaps(node: ast.AST, source: Source) -> Iterator[Edit]:
    """Two neighbouring values swapped: arguments, entries of a tuple, operands whose order matters."""
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "zip", "min", "max"):
            return
        yield from _swap_neighbours(node.args, source)
        yield from _swap_neighbours([keyword.value for keyword in node.keywords if keyword.arg], source)
    elif isinstance(node, ast.Tuple):
        yield from _swap_neighbours(node.elts, source)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, _ORDERED):
        yield from _swap_neighbours([node.left, node.right], source)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and not _is_int(node.right):
        yield from _swap_neighbours([node.left, node.right], source)  # matters for text and lists


def _swap_neighbours(nodes: list[ast.expr], source: Source) -> Iterator[Edit]:
    for first, second in pairwise(nodes):
        if isinstance(first, ast.Starred) or isinstance(second, ast.Starred):
            continue
        yield source.swap(first, second)


def _compare(node: ast.AST, source: Source, table: dict[type[ast.cmpop], tuple[str, str]]) -> Iterator[Edit]:
    if not isinstance(node, ast.Compare):
        return
    for operator, (left, right) in zip(node.ops, pairwise([node.left, *node.comparators]), strict=True):
        if type(operator) in table:
            yield from _one(source.replace_between(left, right, *table[type(operator)]))


def _is_int(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int


def _one(edit: Edit | None) -> Iterator[Edit]:
    if edit is not None:
        yield edit
