"""pytest's ids of parametrized tests, computed from their source: what a test is called when a literal is changed."""

import ast
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from swe_aem.grading.twins.source import Edit, Function, Source
from swe_aem.grading.twins.values import changed_value, other_value, value_of

_MOST_IDS = 20_000


@dataclass(frozen=True)
class Table:
    """One `parametrize` of a test, with literal rows."""

    arguments: tuple[str, ...]
    rows: tuple[tuple[ast.expr, ...], ...]
    """The expression of each argument, row by row."""
    ids: tuple[str | None, ...]
    """The id that is written for a row; None: pytest makes one."""


def tables(source: Source, function: Function) -> list[Table] | None:
    """The tables of a test, the one nearest to it first; None if one of them cannot be read for sure."""
    found = []
    for decorator in reversed(function.decorator_list):
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).split(".")[-1] == "parametrize":
            table = _table(source, decorator)
            if table is None:
                return None
            found.append(table)
    return found


def _table(source: Source, call: ast.Call) -> Table | None:
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if len(call.args) > 2 or not given.keys() <= {"argnames", "argvalues", "ids"}:
        return None
    names = call.args[0] if call.args else given.get("argnames")
    values = call.args[1] if len(call.args) > 1 else given.get("argvalues")
    arguments = _arguments(names)
    if isinstance(values, ast.Name):
        values = _constant(source, values.id)
    if not arguments or not isinstance(values, ast.List | ast.Tuple):
        return None
    rows, ids = [], []
    for row in values.elts:
        id_: str | None = None
        if isinstance(row, ast.Call) and ast.unparse(row.func).split(".")[-1] == "param":
            named = next((keyword.value for keyword in row.keywords if keyword.arg == "id"), None)
            if named is not None:
                if not isinstance(named, ast.Constant) or not isinstance(named.value, str):
                    return None
                id_ = named.value
            cells = tuple(row.args)
        elif len(arguments) == 1:
            cells = (row,)
        elif isinstance(row, ast.Tuple | ast.List):
            cells = tuple(row.elts)
        else:
            return None
        if len(cells) != len(arguments) or any(isinstance(cell, ast.Starred) for cell in cells):
            return None
        rows.append(cells)
        ids.append(id_)
    if "ids" in given:
        written = value_of(given["ids"])
        if written is None or not isinstance(written[0], list | tuple) or len(written[0]) != len(rows):
            return None
        ids = [own or (one if isinstance(one, str) else None) for own, one in zip(ids, written[0], strict=True)]
    return Table(arguments, tuple(rows), tuple(ids))


def _arguments(names: ast.expr | None) -> tuple[str, ...]:
    value = value_of(names) if names is not None else None
    if value is None:
        return ()
    if isinstance(value[0], str):
        return tuple(name.strip() for name in value[0].split(",") if name.strip())
    return tuple(map(str, value[0])) if isinstance(value[0], list | tuple) else ()


def _constant(source: Source, name: str) -> ast.expr | None:
    """What a module binds a name to, if it does so once and the value is used once."""
    bound = [
        statement.value
        for statement in source.tree.body
        if isinstance(statement, ast.Assign)
        and [target.id for target in statement.targets if isinstance(target, ast.Name)] == [name]
    ]
    used = sum(isinstance(node, ast.Name) and node.id == name for node in ast.walk(source.tree))
    return bound[0] if len(bound) == 1 and used == 2 else None


@dataclass(frozen=True)
class Renamed:
    """A table with other values for one argument."""

    edits: dict[str, tuple[Edit, ...]]
    """The edit that a test needs, by its id."""
    ids: dict[str, str]
    """The id of a test, and what it becomes."""


def with_other_values(source: Source, found: Sequence[Table], argument: str) -> Renamed | None:
    """Every row of the table that has `argument` with another literal for it; None if ids cannot be told."""
    at = next((n for n, table in enumerate(found) if argument in table.arguments), None)
    if at is None:
        return None
    table = found[at]
    column = table.arguments.index(argument)
    edits: list[Edit | None] = [other_value(source, row[column]) for row in table.rows]
    old = [_parts(table, _id_of) for table in found]
    new = list(old)

    def changed(argument_: str, cell: ast.expr, row: int) -> str:
        edit = edits[row]
        if argument_ != argument or edit is None:
            return _id_of(argument_, cell, row)
        return _id_of_value(argument_, row, changed_value(source, cell, edit))

    new[at] = _parts(table, changed)
    if any(len(set(parts)) != len(parts) for parts in (*old, *new)) or math.prod(map(len, old)) > _MOST_IDS:
        return None  # pytest numbers ids that are equal
    ids, by_id = {}, {}
    for rows in itertools.product(*(range(len(parts)) for parts in old)):
        before = "-".join(parts[row] for parts, row in zip(old, rows, strict=True))
        after = "-".join(parts[row] for parts, row in zip(new, rows, strict=True))
        edit = edits[rows[at]]
        if edit is not None:
            ids[before], by_id[before] = after, (edit,)
    return Renamed(by_id, ids)


def _parts(table: Table, id_of: Callable[[str, ast.expr, int], str]) -> list[str]:
    return [
        written if written is not None else "-".join(map(id_of, table.arguments, cells, itertools.repeat(row)))
        for row, (cells, written) in enumerate(zip(table.rows, table.ids, strict=True))
    ]


def _id_of(argument: str, cell: ast.expr, row: int) -> str:
    if isinstance(cell, ast.Name | ast.Attribute):
        name = cell.id if isinstance(cell, ast.Name) else cell.attr
        return (
            name
            if name[:1].isupper() or name in ("int", "str", "float", "bytes", "list", "dict")
            else f"{argument}{row}"
        )
    return _id_of_value(argument, row, value_of(cell))


def _id_of_value(argument: str, row: int, value: tuple[object] | None) -> str:
    match value:
        case (str() as text,):
            return text.encode("unicode_escape").decode("ascii")
        case (bytes() as data,):
            return data.decode("ascii", "backslashreplace")
        case (int() | float() | complex() | None as number,):
            return str(number)
        case _:
            return f"{argument}{row}"
