"""`Source`: a file's text together with its syntax tree, and edits of the text at positions of the tree."""

import ast
from dataclasses import dataclass

from swe_aem.core.python_source import parsed_module


@dataclass(frozen=True)
class Edit:
    """Replace the bytes [start, end) of a file."""

    start: int
    end: int
    replacement: str


class Source:
    """Text and tree. Positions are offsets in the UTF-8 bytes, as in the tree's own column numbers."""

    def __init__(self, text: str) -> None:
        self.tree = parsed_module(text)
        self.data = text.encode()
        self._starts = [0]
        for line in self.data.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def offset(self, line: int, column: int) -> int:
        """Offset of a line, counted from 1, and a column, counted in bytes from 0."""
        return self._starts[line - 1] + column

    def start(self, node: ast.expr | ast.stmt) -> int:
        """Where a node begins."""
        return self.offset(node.lineno, node.col_offset)

    def end(self, node: ast.expr | ast.stmt) -> int:
        """Where a node ends."""
        assert node.end_lineno is not None  # `ast.parse` always sets both
        assert node.end_col_offset is not None
        return self.offset(node.end_lineno, node.end_col_offset)

    def text(self, node: ast.expr | ast.stmt) -> str:
        """The source text of a node, without parentheses around it."""
        return self.slice(self.start(node), self.end(node))

    def slice(self, start: int, end: int) -> str:
        """The text between two offsets."""
        return self.data[start:end].decode()

    def line_start(self, offset: int) -> int:
        """Where the line of an offset begins."""
        return self.data.rfind(b"\n", 0, offset) + 1

    def line_end(self, offset: int) -> int:
        """Where the line after that of an offset begins."""
        found = self.data.find(b"\n", offset)
        return len(self.data) if found < 0 else found + 1

    def replace(self, node: ast.expr | ast.stmt, replacement: str) -> Edit:
        """The edit that replaces a node by other text."""
        return Edit(self.start(node), self.end(node), replacement)

    def replace_between(self, left: ast.expr, right: ast.expr, old: str, new: str) -> Edit | None:
        """The edit of an operator between two nodes; None if it cannot be found there."""
        start, end = self.end(left), self.start(right)
        at = self.slice(start, end).find(old)
        return None if at < 0 else Edit(start + at, start + at + len(old), new)

    def swap(self, first: ast.expr, second: ast.expr) -> Edit:
        """The edit that swaps two nodes."""
        between = self.slice(self.end(first), self.start(second))
        return Edit(self.start(first), self.end(second), self.text(second) + between + self.text(first))

    def apply(self, edit: Edit) -> str:
        """The whole text after an edit."""
        return (self.data[: edit.start] + edit.replacement.encode() + self.data[edit.end :]).decode()
