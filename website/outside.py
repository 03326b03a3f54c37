"""Pages that lie outside of docs/, and links to what lies there."""

import posixpath
import re

OUTSIDE = {"benchmarks/README.md": "benchmarks.md", "CHANGELOG.md": "changelog.md"}
"""Files of the repository that are pages too, and their names on the site."""

_INSTEAD = {"README.md": "index.md"}
"""Files that a page of docs/ stands for."""

_LINK = re.compile(r"(?<!!)\[([^\[\]]*)\]\((?![a-z]+:)([^)\s#]+)([^)\s]*)\)")
_IMAGE = re.compile(r"(?<=!\[)([^\[\]]*)\]\((?![a-z]+:)([^)\s]+)(?=\))")


def with_links_of_the_site(markdown: str, page: str) -> str:
    """The text of a page with its links between docs/ and the rest of the repository as links between pages. What the
    site does not have, such as a configuration, is named without a link."""
    source = next((source for source, name in OUTSIDE.items() if name == page), f"docs/{page}")

    def on_the_site(link: str) -> str | None:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
        name = {**OUTSIDE, **_INSTEAD}.get(target) or target.removeprefix("docs/")
        return None if name == target else posixpath.relpath(name, posixpath.dirname(page) or ".")

    def as_link(found: re.Match[str]) -> str:
        place = on_the_site(found[2])
        return found[1] if place is None else f"[{found[1]}]({place}{found[3]})"

    def as_image(found: re.Match[str]) -> str:
        return f"{found[1]}]({on_the_site(found[2]) or found[2]}"

    return _IMAGE.sub(as_image, _LINK.sub(as_link, markdown))
