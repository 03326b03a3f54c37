"""Pages without a server, and what HTML of ours may consist of."""

from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path

from swe_aem.core import Trajectory
from swe_aem.store import Store
from swe_aem.view.index import StoreIndex
from swe_aem.view.pages import PAGES
from swe_aem.view.server import ServerLinks
from swe_aem.view.site import Address, Asked, Site

SKELETON = {"html", "head", "meta", "title", "link", "script", "body", "a", "header", "nav", "ol", "li", "main", "h1"}
SKELETON |= {"footer", "kbd"}


def store_with(directory: Path, *trajectories: Trajectory) -> Path:
    """A store of these."""
    with Store(directory).writer() as writer:
        for one in trajectories:
            writer.append(one)
    return directory


def page(directory: Path, name: str, query: Mapping[str, str] | None = None, **values: str) -> str:
    """The HTML of a page about the store in `directory`."""
    site = Site([directory], PAGES)
    StoreIndex(directory).build()
    return site.html(Asked(Address(name, {"run": directory.name, **values}, query or {}), ServerLinks(site.pages)))


class Parsed(HTMLParser):
    """The tags, the names of attributes, the addresses and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: set[str] = set()
        self.ids: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name in ("href", "src"):
                self.links.add(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data
