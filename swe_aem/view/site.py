"""`Site`: the runs that are looked at, its pages, and how a page becomes HTML; whether a server or an export asks.

A page is a function of a `Site` and an `Asked` that returns a `Shown`. It knows no server: it makes addresses with
`asked.link`, so that the same page works on a server and in an exported folder.
"""

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from swe_aem import __version__
from swe_aem.core.base import Frozen
from swe_aem.errors import SweAemError
from swe_aem.suggest import did_you_mean
from swe_aem.train.directory import ROLLOUTS
from swe_aem.view.found import Kind, Run, find_runs
from swe_aem.view.html import environment, readable
from swe_aem.view.index import Indexer, StoreIndex

if TYPE_CHECKING:
    import jinja2

STATIC = Path(__file__).with_name("static")
TEMPLATES = Path(__file__).with_name("templates")
_HOLE = re.compile(r"\{(\w+)\}")


class NotThere(SweAemError):
    """There is no such page, run or trajectory."""


class Address(NamedTuple):
    """What a link leads to."""

    page: str
    """Name of the page."""
    values: Mapping[str, str] = {}
    """What fills the holes of the page's path."""
    query: Mapping[str, str] = {}
    """Filters, order, place in a list: all that a shared link must hold."""


class Links(Protocol):
    """How addresses are written where a page is shown."""

    exported: bool
    """Is the page a file, without a server behind it?"""
    alone: bool
    """Is it the only one, so that links lead nowhere?"""
    policy: str
    """Content security policy that the page itself holds; empty where the server sends it."""

    def to(self, address: Address, at: Address) -> str:
        """The `href` for an address on the page `at`."""
        ...

    def static(self, name: str, at: Address) -> str:
        """The `href` of a file of `static` on the page `at`."""
        ...


class Asked(NamedTuple):
    """One request for a page."""

    address: Address
    links: Links

    @property
    def values(self) -> Mapping[str, str]:
        """What fills the holes of the page's path, decoded."""
        return self.address.values

    @property
    def query(self) -> Mapping[str, str]:
        """The query, decoded."""
        return self.address.query

    def link(self, page: str, *, query: Mapping[str, str] | None = None, **values: str) -> str:
        """The `href` of another page."""
        return self.links.to(Address(page, values, query or {}), self.address)


class Crumb(NamedTuple):
    """One step of the path at the top of a page."""

    text: str
    href: str


class Shown(Frozen):
    """What a page shows."""

    template: str
    """File in `templates/`."""
    title: str
    values: dict[str, Any]
    """What the template is given; all text in it is escaped."""
    crumbs: tuple[Crumb, ...] = ()
    """Pages above this one, from the list of runs on."""
    live: bool = False
    """May it change while it is looked at? Then it is fetched again from time to time."""
    charts: bool = False
    """Does it hold charts, so that the library that draws them is loaded?"""


class Page(NamedTuple):
    """A kind of page."""

    name: str
    path: str
    """With holes, e.g. `/{run}/trajectory/{task}/{sample}`. A value is one segment, percent-encoded."""
    show: "Callable[[Site, Asked], Shown]"

    def filled(self, values: Mapping[str, str], quote: Callable[[str], str]) -> str:
        """The path with its holes filled; raises `KeyError` for a hole without a value."""
        return _HOLE.sub(lambda hole: quote(values[hole[1]]), self.path)


class Site:
    """The runs below the directories that were named, and the pages about them."""

    def __init__(self, directories: Sequence[Path], pages: Sequence[Page]) -> None:
        """Raises `UserError` for a directory that is not there."""
        self.directories = tuple(directories)
        self.pages = {page.name: page for page in pages}
        self._runs = find_runs(directories)
        self._templates: jinja2.Environment = environment(TEMPLATES)
        self._indexer = Indexer()
        self._indexes: dict[Path, StoreIndex] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """End the process that indexes stores."""
        self._indexer.close()

    def index(self, run: Run) -> StoreIndex:
        """The index of a run's store; of a training run, that of its rollouts. A process of its own fills it."""
        store = run.directory / ROLLOUTS if run.kind is Kind.TRAINING else run.directory
        with self._lock:  # pages are made by several threads
            if store not in self._indexes:
                self._indexes[store] = StoreIndex(store, self._indexer)
            return self._indexes[store]

    def runs(self, kind: Kind | None = None) -> list[Run]:
        """All runs that are there now, those of one kind only where it is given."""
        self._runs = find_runs(self.directories, self._runs)
        return [run for run in self._runs if kind in (None, run.kind)]

    def run(self, name: str) -> Run:
        """The run of that name; raises `NotThere`."""
        for runs in (lambda: self._runs, self.runs):  # it may have begun since they were last looked for
            if (found := next((run for run in runs() if run.name == name), None)) is not None:
                return found
        raise NotThere(f"there is no run {name}{did_you_mean(name, [run.name for run in self._runs])}")

    def html(self, asked: Asked) -> str:
        """A page as HTML; raises `NotThere`, or `UserError` for a file that cannot be understood."""
        if (page := self.pages.get(asked.address.page)) is None:
            raise NotThere("there is no such page")
        return self.written(page.show(self, asked), asked)

    def written(self, shown: Shown, asked: Asked) -> str:
        """The HTML of what a page shows."""
        template = self._templates.get_template(shown.template)
        text = template.render(
            shown.values,
            title=shown.title,
            crumbs=shown.crumbs,
            live=shown.live and not asked.links.exported,
            charts=shown.charts,
            exported=asked.links.exported,
            policy=asked.links.policy,
            version=__version__,
            link=asked.link,
            static=lambda name: asked.links.static(name, asked.address),
        )
        return readable(text)
