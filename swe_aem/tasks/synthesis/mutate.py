"""Small bugs, found in the syntax tree and made in the text, so that no other byte of a file changes.

A rule looks at one node and yields edits; `RULES` names the kind of bug of each rule. Only code inside functions is
changed; annotations, docstrings, f-strings, decorators and the arguments of `raise` are left alone.
"""

import ast
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from swe_aem.core.python_source import parsed_module
from swe_aem.tasks.synthesis import mutate_branches, mutate_values
from swe_aem.tasks.synthesis.source import Edit, Source

Rule = Callable[[ast.AST, Source], Iterator[Edit]]

RULES: tuple[tuple[str, Rule], ...] = (
    ("operator", mutate_values.operators),
    ("comparison", mutate_values.comparisons),
    ("off_by_one", mutate_values.boundaries),
    ("constant", mutate_values.constants),
    ("swapped_arguments", mutate_values.swaps),
    ("missing_branch", mutate_branches.branches),
    ("wrong_return", mutate_branches.returns),
)
"""Kind of bug and its rule. Where two rules make the same text, the first one counts."""

KINDS: tuple[str, ...] = tuple(kind for kind, _ in RULES)


@dataclass(frozen=True)
class Mutation:
    """One bug in one file."""

    path: str
    """File, relative to the package's root."""
    function: str
    """Qualified name of the outermost function around the edit, e.g. `Span.split`."""
    kind: str
    text: str
    """The whole file with the bug in it."""


def find_mutations(path: str, text: str, rules: Sequence[tuple[str, Rule]] = RULES) -> list[Mutation]:
    """All mutations of one file in the order of its functions; no two have the same text, none the original's tree."""
    source = Source(text)
    original = ast.dump(source.tree)
    seen = {text}
    found: list[Mutation] = []
    for name, function in _functions(source.tree, ""):
        for kind, rule in rules:
            for node in _mutable_nodes(function):
                for edit in rule(node, source):
                    changed = source.apply(edit)
                    if changed not in seen and _means_something_else(changed, original):
                        found.append(Mutation(path, name, kind, changed))
                    seen.add(changed)
    return found


def find_edits(source: Source, rules: Sequence[tuple[str, Rule]], lines: Collection[int]) -> Iterator[tuple[str, Edit]]:
    """Edits near `lines` with their kinds, outside of functions too: of functions and statements that have such a line.

    Two of them may make the same text, or none that can be parsed.
    """
    nodes = list(_everywhere(source.tree, lines))
    for kind, rule in rules:
        for node in nodes:
            for edit in rule(node, source):
                yield kind, edit


def _means_something_else(text: str, original: str) -> bool:
    try:
        return ast.dump(parsed_module(text)) != original
    except SyntaxError:
        return False


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Functions and methods with their qualified names; what is nested in a function belongs to that function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            yield prefix + child.name, child
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")


def _everywhere(scope: ast.Module | ast.ClassDef, lines: Collection[int]) -> Iterator[ast.AST]:
    """The scope itself, for its list of statements, and the nodes in those that have one of the lines."""
    yield scope
    for statement in scope.body:
        if not any(statement.lineno <= line <= (statement.end_lineno or 0) for line in lines):
            continue
        if isinstance(statement, ast.ClassDef):
            yield from _everywhere(statement, lines)
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _mutable_nodes(statement)
        else:
            yield from _walk(statement)


def _mutable_nodes(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.AST]:
    """The function itself, for its list of statements, and the nodes in it, in the order of the text."""
    yield function
    for default in [*function.args.defaults, *(value for value in function.args.kw_defaults if value)]:
        yield from _walk(default)
    for statement in function.body:
        yield from _walk(statement)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.JoinedStr | ast.Raise | ast.Assert):
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring
    if isinstance(node, ast.FunctionDef):
        yield from _mutable_nodes(node)
        return
    yield node
    for field, value in ast.iter_fields(node):
        if field == "annotation":
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _walk(child)
