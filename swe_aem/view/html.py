"""HTML pages from Jinja templates, whatever text they show."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2

_VISIBLE = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}
"""Control characters, which HTML forbids, as their pictures."""


def readable(text: str) -> str:
    """`text` as UTF-8 and HTML can hold it: lone surrogates as escapes, control characters as pictures."""
    return text.translate(_VISIBLE).encode("utf-8", "backslashreplace").decode()


def template(path: Path) -> "jinja2.Template":
    """The template in a file; it escapes what is put into it."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(path.parent),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(path.name)
