"""HTML pages from Jinja templates, whatever text they show."""

import re
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2

_PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"} | {127: "\u2421"}
"""Control characters, which HTML forbids, as their pictures."""
_HIDDEN = (
    *(range(0x80, 0xA0), range(0x200E, 0x2010), range(0x202A, 0x202F), range(0x2060, 0x2070), range(0xFFF9, 0xFFFC)),
    *(range(0xE0000, 0xE0080), (0x61C, 0x200B, 0xFEFF)),
)
"""Characters that cannot be seen, or that change the direction of what is around them, so that a text reads as another
one: https://trojansource.codes."""
_VISIBLE = _PICTURES | {code: f"[U+{code:04X}]" for codes in _HIDDEN for code in codes}

_TO_SHOW = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""The keys of `_VISIBLE` in ranges, which are found fast."""


def readable(text: str) -> str:
    """`text` as a page or a terminal can show it, everything in it visible: lone surrogates as escapes, control
    characters as pictures, and by their numbers what is invisible or turns the direction of writing."""
    shown = _TO_SHOW.sub(lambda match: _VISIBLE[ord(match[0])], text)
    return shown.encode("utf-8", "backslashreplace").decode()


def escaped_bytes(text: str) -> int:
    """Bytes of `text` on a page, about."""
    return len(escape(readable(text)).encode())


@cache
def environment(folder: Path) -> "jinja2.Environment":
    """The templates of a folder; they escape what is put into them, and an unknown name in one is an error."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
