"""The glossary: the table of words of docs/architecture.md, in the order of the alphabet."""

import re
from pathlib import Path

MARK = "<!-- words -->"
_ARCHITECTURE = Path(__file__).parents[1] / "docs" / "architecture.md"


def with_words(markdown: str) -> str:
    """The page with the table in the place of its mark."""
    text = _ARCHITECTURE.read_text(encoding="utf-8")
    section = re.search(r"^## Words\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    if section is None:
        raise ValueError(f"{_ARCHITECTURE} has no section Words")
    head, line, *rows = re.findall(r"^\|.*$", section[1], re.MULTILINE)
    return markdown.replace(MARK, "\n".join([head, line, *sorted(rows, key=str.lower)]))
