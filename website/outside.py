"""Pages that lie outside of docs/, and links to them."""

import posixpath
import re

OUTSIDE = {"benchmarks/README.md": "benchmarks.md", "CHANGELOG.md": "changelog.md"}
"""Files of the repository that are pages too, and their names on the site."""

_ALSO = {"README.md": "index.md"}
"""Files that a page of the site stands for."""

_LINK = re.compile(r"(?<=\]\()(?![a-z]+:)([^)\s#]+)")


def of_the_repository(page: str) -> str:
    """Where a page of the site lies in the repository, from its name on the site."""
    return next((source for source, name in OUTSIDE.items() if name == page), f"docs/{page}")


def with_links_of_the_site(markdown: str, page: str) -> str:
    """The text of a page with its links between docs/ and the rest of the repository as links between pages."""
    source = of_the_repository(page)

    def as_page(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), found[0]))
        name = {**OUTSIDE, **_ALSO}.get(target) or target.removeprefix("docs/")
        if target == name:  # neither in docs/ nor a page: the strict build says so
            return found[0]
        return posixpath.relpath(name, posixpath.dirname(page) or ".")

    return _LINK.sub(as_page, markdown)
