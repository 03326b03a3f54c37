"""A Python test file with the place of every node in its bytes, and edits of such places."""

import ast
import codecs
import io
import re
import tokenize
from collections.abc import Iterable
from typing import NamedTuple

from swe_aem.core.python_source import parsed_module

_LINE_END = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Unsuitable(Exception):
    """Why a file or a test has no twin."""


class Edit(NamedTuple):
    """Bytes in the place of others."""

    start: int
    end: int
    new: bytes


class Source:
    """A file, its syntax tree, and the offsets of its lines. Raises `Unsuitable` if it cannot be read for sure."""

    def __init__(self, data: bytes) -> None:
        try:
            encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
            data.decode("utf-8")
            self.tree = parsed_module(data)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise Unsuitable(f"its file cannot be parsed by this Python: {type(error).__name__}") from None
        if codecs.lookup(encoding).name not in ("utf-8", "utf-8-sig", "ascii"):
            raise Unsuitable(f"its file is not in UTF-8 but in {encoding}")
        self.data = data
        first = len(_BOM) if data.startswith(_BOM) else 0
        self._starts = [first, *(found.end() for found in _LINE_END.finditer(data))]

    def span(self, node: ast.AST) -> tuple[int, int]:
        """Where an expression or statement begins and ends, in bytes."""
        assert isinstance(node, ast.expr | ast.stmt | ast.keyword)
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self._starts[node.lineno - 1] + node.col_offset
        return start, self._starts[node.end_lineno - 1] + node.end_col_offset

    def text(self, node: ast.AST) -> str:
        """The text of a node."""
        start, end = self.span(node)
        return self.data[start:end].decode("utf-8")

    def edited(self, edits: Iterable[Edit]) -> bytes:
        """The file with all edits made; raises `Unsuitable` if they overlap, or the outcome is not what was meant."""
        data, last = self.data, len(self.data)
        for edit in sorted(set(edits), reverse=True):
            if edit.end > last:
                raise Unsuitable("two changes of its file overlap")
            data = data[: edit.start] + edit.new + data[edit.end :]
            last = edit.start
        if len(_LINE_END.findall(data)) != len(_LINE_END.findall(self.data)):
            raise Unsuitable("its lines would move")
        Source(data)
        return data


def identifiers(*nodes: ast.AST) -> set[str]:
    """Names, attributes and keywords anywhere in the nodes."""
    found: set[str] = set()
    for node in nodes:
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name):
                found.add(inner.id)
            elif isinstance(inner, ast.Attribute):
                found.add(inner.attr)
            elif isinstance(inner, ast.keyword) and inner.arg:
                found.add(inner.arg)
    return found


def loads(node: ast.AST, name: str) -> int:
    """How often the value of a name is used in a node, other than to print it."""
    todo, found = [node], 0
    while todo:
        inner = todo.pop()
        found += isinstance(inner, ast.Name) and inner.id == name and isinstance(inner.ctx, ast.Load)
        if not (isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name) and inner.func.id == "print"):
            todo += ast.iter_child_nodes(inner)
    return found


def stores(node: ast.AST, name: str) -> int:
    """How often a name is bound in a node."""
    return sum(
        isinstance(inner, ast.Name) and inner.id == name and not isinstance(inner.ctx, ast.Load)
        for inner in ast.walk(node)
    )
