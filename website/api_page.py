"""The page of the Python API: each name that it lists, from its docstring and signature."""

import re

import swe_aem


def with_objects(markdown: str) -> str:
    """The page with `::: swe_aem.NAME` led to where mkdocstrings finds the object, under its public name."""
    return re.sub(r"^::: swe_aem\.(\w+)$", lambda found: _block(found[1]), markdown, flags=re.MULTILINE)


def _block(name: str) -> str:
    found = getattr(swe_aem, name)
    is_module = not hasattr(found, "__qualname__")
    where = found.__name__ if is_module else f"{found.__module__}.{found.__qualname__}"
    return f'::: {where}\n    options:\n      heading: "sa.{name}"\n      toc_label: "{name}"'
