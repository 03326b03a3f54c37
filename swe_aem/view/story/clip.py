"""Texts of policies and repositories, bounded and in colour: no text makes a page too large to be shown.

A text is cut in its middle, for its beginning and its end say most. Terminal colours (SGR escapes) become the names of
style classes, and all other terminal escapes are dropped.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from swe_aem.view.html import escaped_bytes

MOST_PIECES = 400
"""Changes of colour that are shown of one text; what follows them has no colour."""
MOST_CHANGES = 2000
"""Changes between kinds of lines that are shown of one diff."""
_PIECE_BYTES = 40
_KINDS = {"+": "add", "-": "del", "@": "hunk", "\\": "meta"}
_LEAST = 160
"""Characters that are shown of a text even where a page is full."""
_ESCAPE = re.compile(
    r"\x1b\[(?P<sgr>[0-9;]*)m"
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # other control sequences: cursor, screen
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # titles, links
    r"|\x1b[()*+][0-9A-Za-z]|\x1b[=>78cDEHM]"
)
_STYLES = {1: "bold", 2: "faint", 3: "italic", 4: "underlined", 7: "reversed"}
_NORMAL = {22: ("bold", "faint"), 23: ("italic",), 24: ("underlined",), 27: ("reversed",)}


class Piece(NamedTuple):
    """A part of a text that has one look."""

    text: str
    kind: str = ""
    """Names of style classes: `ansi-31`, `ansi-bold`, `left-out`."""


class Clipped(NamedTuple):
    """A text as it is shown."""

    pieces: tuple[Piece, ...]
    left_out: int
    """Characters that are not shown."""

    @property
    def text(self) -> str:
        """The same without colours."""
        return "".join(piece.text for piece in self.pieces)


Look = Callable[[str], list[Piece]]


class Budget:
    """How much text a page may still hold. What comes when it is used up is cut short."""

    def __init__(self, size_bytes: int) -> None:
        self.left_bytes = size_bytes

    def clip(self, text: str, most: int, look: Look | None = None) -> Clipped:
        """`text`, its middle left out where it has more than `most` characters, or the page has no space for more."""
        if min(len(text), most) > self.left_bytes:
            most = min(most, _LEAST)  # a character takes a byte at least
        shown = clip(text, most, look)
        size = _size_bytes(shown)
        if size > self.left_bytes:
            shown = clip(text, min(most, _LEAST), look)
            size = _size_bytes(shown)
        self.left_bytes -= size
        return shown


def clip(text: str, most: int, look: Look | None = None) -> Clipped:
    """`text` in pieces, its middle left out where it has more than `most` characters; `look` makes the pieces, and is
    `coloured` if it is not given."""
    look = look or coloured
    if len(text) <= most:
        return Clipped(tuple(look(text)), 0)
    head, tail = most - most // 2, most // 2
    gap = Piece(f"\n[… {len(text) - most:,} characters left out …]\n", "left-out")
    return Clipped((*look(text[:head]), gap, *look(text[len(text) - tail :])), len(text) - most)


def changed(text: str) -> list[Piece]:
    """The lines of a diff, or of an edit, in pieces of one kind: `add`, `del`, `hunk`, `meta`."""
    pieces: list[Piece] = []
    inside = not text.startswith("diff --git ")
    for line in re.findall(r"[^\n]*\n|[^\n]+", text):
        if line.startswith("diff --git "):
            inside = False
        elif line.startswith("@@"):
            inside = True
        kind = _KINDS.get(line[:1], "") if inside else "meta"
        if (pieces and pieces[-1].kind == kind) or len(pieces) >= MOST_CHANGES:
            pieces[-1] = Piece(pieces[-1].text + line, pieces[-1].kind)
        else:
            pieces.append(Piece(line, kind))
    return pieces


def _size_bytes(shown: Clipped) -> int:
    return escaped_bytes(shown.text) + _PIECE_BYTES * len(shown.pieces)


def coloured(text: str) -> list[Piece]:
    """A text with its terminal colours; other terminal escapes are dropped."""
    if "\x1b" not in text:
        return [Piece(text)] if text else []
    pieces: list[Piece] = []
    look: dict[str, None] = {}
    at = 0
    for match in _ESCAPE.finditer(text):
        _add(pieces, text[at : match.start()], look)
        at = match.end()
        if match["sgr"] is not None:
            _change(look, match["sgr"])
    _add(pieces, text[at:], look)
    return pieces


def plain(text: str) -> str:
    """A text without terminal escapes."""
    return _ESCAPE.sub("", text) if "\x1b" in text else text


def _add(pieces: list[Piece], text: str, look: dict[str, None]) -> None:
    kind = " ".join(f"ansi-{name}" for name in look) if len(pieces) < MOST_PIECES else ""
    if not text:
        return
    if pieces and pieces[-1].kind == kind:
        pieces[-1] = Piece(pieces[-1].text + text, kind)
    else:
        pieces.append(Piece(text, kind))


def _change(look: dict[str, None], codes: str) -> None:
    """Take the codes of one SGR sequence; 256 colours and RGB are read over."""
    numbers = [int(code) if code and len(code) < 4 else 0 for code in codes.split(";")]
    while numbers:
        code = numbers.pop(0)
        if code == 0:
            look.clear()
        elif code in (38, 48):
            del numbers[: 4 if numbers[:1] == [2] else 2]
        elif code in _STYLES:
            look[_STYLES[code]] = None
        elif code in _NORMAL or code == 39:
            for name in _NORMAL.get(code, [name for name in look if name.isdigit()]):
                look.pop(name, None)
        elif 30 <= code <= 37 or 90 <= code <= 97:
            for name in [name for name in look if name.isdigit()]:
                del look[name]
            look[str(code % 60 if code >= 90 else code)] = None
