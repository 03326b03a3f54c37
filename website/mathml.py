"""Formulas as MathML, made when the site is built: browsers draw it without a script. On GitHub the same sources,
`$...$` and blocks of the language `math`, are drawn by GitHub."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)


def inline(page: str) -> str:
    """The HTML of a page with each formula within a line as MathML."""
    return _INLINE.sub(lambda found: _mathml(html.unescape(found[1]), "inline"), page)


def fence(source: str, language: str, css_class: str, options: Any, md: Any, **_: Any) -> str:
    """A block of the language `math` as MathML (a custom fence of pymdownx.superfences)."""
    return f'<div class="formula">{_mathml(source.strip(), "block")}</div>'


def _mathml(latex: str, display: str) -> str:
    """The formula, with its source as what a screen reader or a text browser may say in its place."""
    drawn = convert(latex, display=display)
    return drawn.replace("<math ", f'<math alttext="{html.escape(latex)}" ', 1)
