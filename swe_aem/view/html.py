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


def template(path: Path) -> "jinja2.Template":
    """The template in a file, with those beside it to include."""
    return environment(path.parent).get_template(path.name)
