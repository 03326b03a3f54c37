"""Other languages than Python, as text: what is code in a file, and small edits of it.

There is no syntax tree: strings and comments are found by the marks of the language, and everything else is code.
"""

import posixpath
import re
from collections.abc import Iterator

from swe_aem.tasks.synthesis.source import Edit

_DOUBLE = r'"(?:\\.|[^"\\])*"'
_SINGLE = r"'(?:\\.|[^'\\\n])*'"
_CHARACTER = r"'(?:\\[^']{1,10}|[^'\\\n])'"
_BACKTICK = r"`(?:\\.|[^`\\])*`"
_SLASHES = r"//[^\n]*|/\*.*?(?:\*/|\Z)"
_HASH = r"#[^\n]*"


def _pattern(*parts: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{part})" for part in parts), re.DOTALL)


_SCRIPT = _pattern(_SLASHES, _DOUBLE, _SINGLE, _BACKTICK)
_COMPILED = _pattern(_SLASHES, _DOUBLE, _CHARACTER)
_GO = _pattern(_SLASHES, _DOUBLE, _CHARACTER, _BACKTICK)
_PHP = _pattern(_SLASHES, _HASH, _DOUBLE, _SINGLE)
_RUBY = _pattern(r"^=begin\b.*?^=end\b[^\n]*", r"(?<![\w$])#[^\n]*", _DOUBLE, _SINGLE)

_NOT_CODE: dict[str, re.Pattern[str]] = {
    **dict.fromkeys((".js", ".jsx", ".mjs", ".cjs", ".ts", ".tsx", ".mts", ".cts"), _SCRIPT),
    **dict.fromkeys((".c", ".h", ".cc", ".cpp", ".cxx", ".hpp", ".hh", ".cs", ".rs"), _COMPILED),
    **dict.fromkeys((".java", ".kt", ".scala", ".swift"), _COMPILED),
    ".go": _GO,
    ".php": _PHP,
    ".rb": _RUBY,
}
"""Suffix of a file to what in it is no code: comments and strings."""

_SWAPS: tuple[tuple[str, re.Pattern[str], str], ...] = tuple(
    (kind, re.compile(rf"(?<=\s){re.escape(old)}(?=\s)"), new)
    for kind, pairs in (
        ("comparison", ("== !=", "!= ==", "=== !==", "!== ===", "< >=", ">= <", "> <=", "<= >")),
        ("off_by_one", ("< <=", "<= <", "> >=", ">= >")),
        ("operator", ("&& ||", "|| &&")),
    )
    for old, new in (pair.split() for pair in pairs)
)
"""Operators stand between blanks: `List<String>` and `a->b` have none."""
_WORDS = {"true": "false", "false": "true"}
_WORD = re.compile(r"(?<![\w.$@:])(?:true|false|\d+)(?![\w.$:])")


def is_known(path: str) -> bool:
    """Is it known what is code in a file of this name?"""
    return _suffix(path) in _NOT_CODE


def code_of(path: str, text: str) -> str:
    """The text with blanks in place of comments, and with single blanks; strings stay. For comparisons."""
    masked = _NOT_CODE[_suffix(path)].sub(lambda found: found[0] if _is_string(found[0]) else " ", text)
    return " ".join(masked.split())


def find_text_edits(path: str, text: str) -> Iterator[tuple[str, Edit]]:
    """Edits of a file in another language than Python, with their kinds: comparisons, bounds, `&&` and `||`, truth
    values and whole numbers. None where the language is not known."""
    if not is_known(path):
        return
    masked = _NOT_CODE[_suffix(path)].sub(lambda found: re.sub(r"[^\n]", "\0", found[0]), text)
    for kind, pattern, new in _SWAPS:
        for found in pattern.finditer(masked):
            yield kind, _edit(text, found, new)
    for found in _WORD.finditer(masked):
        word = found[0]
        yield "constant", _edit(text, found, _WORDS.get(word) or str(int(word) + 1))


def _edit(text: str, found: re.Match[str], new: str) -> Edit:
    start = len(text[: found.start()].encode())
    return Edit(start, start + len(found[0].encode()), new)


def _is_string(token: str) -> bool:
    return token[0] in "\"'`"


def _suffix(path: str) -> str:
    return posixpath.splitext(path)[1].lower()
