"""How texts are searched: what a word is, and where a text that was found stands.

A search is one or more words, each of which a trajectory must have; what stands in double quotes must stand together.
Letter case and punctuation make no difference: `_parse_header` finds `parse_header()`, `parseHeader` and "parse
header", and `"KeyError: 'x'"` finds `KeyError('x')`. A word is found where words begin, and where parts of an
identifier begin: `Error` finds `KeyError` and `err` finds `my_errors`, but `rror` finds neither. A single letter is a
whole word. Of very many words the first ones are looked for.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import islice

from swe_aem.view.index.model import Snippet, TextPlace
from swe_aem.view.index.texts import Passage

COLUMNS = ("conversation", "patch", "failure")
"""The columns of the full-text table, which are the places of `TextPlace`."""
_WORD = re.compile(r"[^\W_]{1,64}")
"""Longer ones, such as encoded data, count as several that stand together."""
_PART = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_TERM = re.compile(r'"([^"]*)"?|([^\s"]+)')
_BREAK = " 0x0x0 "
"""Stands between the parts of two identifiers, so that no search finds them together."""
_MOST_IDENTIFIERS = 20_000
_MOST_TERMS = 32
_SHOWN = 80
"""Characters of a snippet on either side of the match."""


def words_of(texts: Iterable[str]) -> str:
    """The words of some texts, and behind them the parts of their identifiers, as one text for the full-text table."""
    found = [_WORD.findall(text) for text in texts]
    whole = _BREAK.join(" ".join(words) for words in found)
    different = {word for words in found for word in words if not word.islower()}
    identifiers = sorted(different)[:_MOST_IDENTIFIERS]
    parts = [" ".join(several) for word in identifiers if len(several := _PART.split(word)) > 1]
    return _BREAK.join((whole, *parts))


def has_words(text: str) -> bool:
    """Is there a word in a search? Punctuation alone finds nothing."""
    return any(_terms(text))


def expression(text: str, place: TextPlace) -> str | None:
    """The search in the language of FTS5; None if it has no word."""
    terms = [_term(words) for words in _terms(text)]
    if not terms:
        return None
    columns = " ".join(COLUMNS) if place == "anywhere" else place
    return f"{{{columns}}} : ({' AND '.join(terms)})"


def snippets(passages: Iterable[Passage], text: str, place: TextPlace, most: int) -> list[Snippet]:
    """The first places where words of a search stand, at most one for each text and word."""
    patterns = [_pattern(words) for words in _terms(text)]
    found: list[Snippet] = []
    for passage in passages:
        if place not in ("anywhere", passage.column):
            continue
        for pattern in patterns:
            if (match := pattern.search(passage.text)) is not None:
                found.append(_snippet(passage, match))
                if len(found) == most:
                    return found
    return found


def _terms(text: str) -> Iterator[list[str]]:
    """The words of each term of a search."""
    for match in islice(_TERM.finditer(text), _MOST_TERMS):
        if words := _WORD.findall(match[1] if match[1] is not None else match[2]):
            yield words


def _term(words: list[str]) -> str:
    found = [_phrase(words)]
    if len(words) == 1 and len(parts := _PART.split(words[0])) > 1:
        found.append(_phrase(parts))
    return f"({' OR '.join(found)})"


def _phrase(words: list[str]) -> str:
    return f'"{" ".join(words)}"{" *" if len(words[-1]) > 1 else ""}'


def _pattern(words: list[str]) -> re.Pattern[str]:
    end = "" if len(words[-1]) > 1 else r"(?![^\W_])"
    begin = r"(?<![^\W_])" if len(words[0]) == 1 else ""
    return re.compile(begin + r"[\W_]*".join(map(re.escape, words)) + end, re.IGNORECASE)


def _snippet(passage: Passage, match: re.Match[str]) -> Snippet:
    start, end = match.span()
    text = passage.text
    before, after = text[max(0, start - _SHOWN) : start], text[end : end + _SHOWN]
    return Snippet(
        place=passage.place,
        turn=passage.turn,
        before=("…" if start > _SHOWN else "") + before,
        match=text[start : min(end, start + 4 * _SHOWN)],
        after=after + ("…" if end + _SHOWN < len(text) else ""),
    )
