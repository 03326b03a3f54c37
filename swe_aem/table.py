"""Plain tables: columns of equal width, for terminals, pipes and `grep`."""

from collections.abc import Iterator, Sequence


def table(
    rows: Sequence[Sequence[object]], *, head: Sequence[str] = (), align: str = "", indent: int = 0
) -> Iterator[str]:
    """The lines of a table; none without rows.

    `align` has a letter per column, `<` for left and `>` for right; columns beyond it take its last letter, and all are
    left-aligned without it. `indent` is in spaces.
    """
    if not rows:
        return
    cells = [[str(cell) for cell in row] for row in ([head, *rows] if head else rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    sides = (align or "<").ljust(len(widths), (align or "<")[-1])
    for row in cells:
        line = (f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=False))
        yield (" " * indent + "  ".join(line)).rstrip()
