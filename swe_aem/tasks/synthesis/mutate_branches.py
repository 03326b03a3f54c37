"""Mutation rules for control flow: missing branches and wrong return values."""

import ast
from collections.abc import Iterator

from swe_aem.tasks.synthesis.source import Edit, Source

_BODIES = ("body", "orelse", "finalbody")


def branches(node: ast.AST, source: Source) -> Iterator[Edit]:
    """A missing branch, filter or part of a condition."""
    for field in _BODIES:
        statements = getattr(node, field, None)
        if isinstance(statements, list):
            yield from _plain_ifs(statements, source)
    if isinstance(node, ast.If):
        yield from _chained_branches(node, source)
    elif isinstance(node, ast.IfExp):
        yield source.replace(node, source.text(node.body))
        yield source.replace(node, source.text(node.orelse))
    elif isinstance(node, ast.BoolOp):
        yield Edit(source.end(node.values[-2]), source.end(node.values[-1]), "")
        yield Edit(source.start(node.values[0]), source.start(node.values[1]), "")
    elif isinstance(node, ast.comprehension):
        for condition, before in zip(node.ifs, [node.iter, *node.ifs], strict=False):
            yield Edit(source.end(before), source.end(condition), "")


def _plain_ifs(statements: list[ast.stmt], source: Source) -> Iterator[Edit]:
    """Delete an `if` without `else`; if nothing else is in its block, let its body run always."""
    for statement in statements:
        if not isinstance(statement, ast.If) or statement.orelse or _is_elif(statement, source):
            continue
        start = source.line_start(source.start(statement))
        if len(statements) > 1:
            yield Edit(start, source.line_end(source.end(statement)), "")
        body_start = source.line_start(source.start(statement.body[0]))
        body = source.slice(body_start, source.line_end(source.end(statement)))
        yield Edit(start, source.line_end(source.end(statement)), _dedent(body))


def _chained_branches(node: ast.If, source: Source) -> Iterator[Edit]:
    """Delete one branch of an `if` that has others."""
    body_end = source.line_end(source.end(node.body[-1]))
    if _is_elif(node, source):
        yield Edit(source.line_start(source.start(node)), body_end, "")
    if not node.orelse:
        return
    following = node.orelse[0]
    if isinstance(following, ast.If) and _is_elif(following, source):
        if not _is_elif(node, source):
            # the `elif` that follows becomes the `if`
            yield Edit(source.start(node), source.start(following) + len("el"), "")
        return
    yield Edit(body_end, source.line_end(source.end(node.orelse[-1])), "")


def omissions(node: ast.AST, source: Source) -> Iterator[Edit]:
    """A missing statement: a call, a raise, a jump, a change of something that exists.

    No task is made with this kind of bug, which is easily seen.
    """
    for field in _BODIES:
        statements = getattr(node, field, None)
        for statement in statements if isinstance(statements, list) else ():
            if _can_be_missing(statement):
                yield source.replace(statement, "pass")


def _can_be_missing(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Assign):
        return all(isinstance(target, ast.Attribute | ast.Subscript) for target in statement.targets)
    if isinstance(statement, ast.Expr):
        return not isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.AugAssign | ast.Raise | ast.Delete | ast.Break | ast.Continue)


def _is_elif(node: ast.If, source: Source) -> bool:
    return source.slice(source.start(node), source.start(node) + 4) == "elif"


def _dedent(block: str) -> str:
    return "".join(line.removeprefix("    ") for line in block.splitlines(keepends=True))


def returns(node: ast.AST, source: Source) -> Iterator[Edit]:
    """Return something near the right value: an operand, an argument, the opposite, a smaller list, another name."""
    if not isinstance(node, ast.Return) or node.value is None:
        return
    value = node.value
    for replacement in _near_values(value, source):
        yield source.replace(value, replacement)


def _near_values(value: ast.expr, source: Source) -> Iterator[str]:
    if isinstance(value, ast.Compare | ast.BoolOp) or (
        isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.Not)
    ):
        yield f"not ({source.text(value)})"
    elif isinstance(value, ast.Call):
        if isinstance(value.func, ast.Attribute):
            yield source.text(value.func.value)
        if value.args and not isinstance(value.args[0], ast.Starred | ast.GeneratorExp):
            yield source.text(value.args[0])
        if isinstance(value.func, ast.Name):
            yield "None"
    elif isinstance(value, ast.BinOp):
        yield source.text(value.left)
        yield source.text(value.right)
    elif isinstance(value, ast.Tuple) and len(value.elts) == 2:
        yield f"{source.text(value.elts[1])}, {source.text(value.elts[0])}"
        yield f"{source.text(value.elts[0])}, {source.text(value.elts[0])}"
    elif isinstance(value, ast.List) and value.elts:
        yield "[]"
    elif isinstance(value, ast.IfExp):
        yield f"{source.text(value.orelse)} if {source.text(value.test)} else {source.text(value.body)}"
    elif isinstance(value, ast.Subscript | ast.Attribute):
        yield source.text(value.value)
    elif isinstance(value, ast.ListComp):
        yield f"{source.text(value)}[1:]"
    elif isinstance(value, ast.Constant):
        yield "False" if value.value is None else "None"
    elif isinstance(value, ast.Name):
        yield "None"
