"""Strings that JSON readers other than Python's can take, without loss.

A patch or an output may hold bytes that are not UTF-8; Python carries them as lone surrogates, which Arrow's JSON
reader refuses. `escape` moves each surrogate U+Dxxx to U+10Dxxx, a private-use character, and puts `MARK` before the
rare character that stood there already; `unescape` is its exact inverse.
"""

import re

MARK = "\U0010d7ff"
_SHIFT = 0x100000
_TO_ESCAPE = re.compile("[\ud800-\udfff\U0010d7ff-\U0010dfff]")
_ESCAPED = re.compile(f"{MARK}(.)|[\U0010d800-\U0010dfff]")


def escape(text: str) -> str:
    """`text` without lone surrogates; the same string if it has none and no character of the escape's own range."""
    return _TO_ESCAPE.sub(_escape_one, text)


def unescape(text: str) -> str:
    """The string that `escape` was given."""
    if text.isascii():  # known without a look at it, and most texts are
        return text
    return _ESCAPED.sub(lambda match: match[1] or chr(ord(match[0]) - _SHIFT), text)


def _escape_one(match: re.Match[str]) -> str:
    code = ord(match[0])
    return chr(code + _SHIFT) if code < _SHIFT else MARK + match[0]
