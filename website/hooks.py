"""What the site does with the pages of docs/ when it is built (`hooks` of mkdocs.yml)."""

import re
from pathlib import Path
from typing import Any

import api_page
import commands_page
import glossary_page
import mathml
import outside
import settings_page
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]

GENERATED = {
    "reference/commands.md": commands_page.with_commands,
    "reference/settings.md": settings_page.with_settings,
    "reference/api.md": api_page.with_objects,
    "glossary.md": glossary_page.with_words,
}
"""Pages that are written in part by the code that they describe."""


def on_config(config: Any) -> None:
    """Let blocks of the language `math` be formulas."""
    fences = [{"name": "math", "class": "formula", "format": mathml.fence}]
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = fences


def on_files(files: Files, config: Any) -> None:
    """Add the pages that lie outside of docs/."""
    for source, name in outside.OUTSIDE.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text(encoding="utf-8")))


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in what is generated, and make the text one of the site."""
    name = page.file.src_uri
    if name in GENERATED:
        markdown = GENERATED[name](markdown)
    markdown = re.sub(r"^```(\w+) (no-run|nightly)$", r"```\1", markdown, flags=re.MULTILINE)  # words for tests
    return outside.with_links_of_the_site(markdown, name)


def on_page_content(html: str, **_: Any) -> str:
    """Draw the formulas within lines."""
    return mathml.inline(html)
