"""Slips: one token of a function replaced by another. Far more bugs than `mutate.py` makes, for demonstrations.

A policy that sees few bugs memorises them; one that sees a new bug in every demonstration learns to look for it.
"""

import ast
import builtins
from collections.abc import Collection, Iterator

from swe_aem.tasks.synthesis.source import Edit, Source

_ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.FloorDiv: "//",
    ast.Mod: "%",
}
_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}


_RECEIVERS = {"self", "cls"}


def names(node: ast.AST, source: Source) -> Iterator[Edit]:
    """Another variable of the same text."""
    if isinstance(node, ast.Name) and node.id in (variables := _variables(source.tree)):
        for name in sorted(variables - {node.id}):
            yield source.replace(node, name)


def local_names(node: ast.AST, source: Source) -> Iterator[Edit]:
    """Another variable of the same function where one is read."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        stored = {name.id for name in ast.walk(node) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)}
        own = (stored | {argument.arg for argument in ast.walk(node) if isinstance(argument, ast.arg)}) - _RECEIVERS
        for name in ast.walk(node):
            if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Load) and name.id in own:
                yield from (source.replace(name, other) for other in sorted(own - {name.id}))


def numbers(node: ast.AST, source: Source) -> Iterator[Edit]:
    """Another digit."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        for digit in range(10):
            yield source.replace(node, str(digit))


def operators(node: ast.AST, source: Source) -> Iterator[Edit]:
    """Any other arithmetic operator."""
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        yield from _signs(node.left, node.right, _ARITHMETIC[type(node.op)], _ARITHMETIC.values(), source)


def comparisons(node: ast.AST, source: Source) -> Iterator[Edit]:
    """Any other comparison."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARISONS:
        sign = _COMPARISONS[type(node.ops[0])]
        yield from _signs(node.left, node.comparators[0], sign, _COMPARISONS.values(), source)


def _signs(left: ast.expr, right: ast.expr, sign: str, signs: Collection[str], source: Source) -> Iterator[Edit]:
    for other in signs:
        edit = source.replace_between(left, right, sign, other)
        if edit is not None and other != sign:
            yield edit


def _variables(tree: ast.AST) -> set[str]:
    """Arguments and other names, without builtins and functions."""
    named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    arguments = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    return (named | arguments) - functions - set(dir(builtins))


SLIPS = (
    ("wrong_name", names),
    ("wrong_number", numbers),
    ("wrong_operator", operators),
    ("wrong_comparison", comparisons),
)
"""Kind of slip and its rule, in the form of `mutate.RULES`."""
