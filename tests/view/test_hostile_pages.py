"""Whatever texts stand in a run, every page holds only our own tags and attributes, on a server and in an export."""

from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from swe_aem.core import TrajectoryKey
from swe_aem.view.export import export_folder, write_page
from swe_aem.view.html import readable
from swe_aem.view.pages import PAGES
from swe_aem.view.server import ServerLinks
from swe_aem.view.site import Address, Asked, Page, Site
from tests.view.hostile import CANARY, TEXTS, write_world

TAGS = {"html", "head", "meta", "title", "link", "script", "style", "body", "header", "nav", "main", "footer"}
TAGS |= {"a", "article", "b", "code", "dd", "details", "div", "dl", "dt", "figcaption", "figure", "h1", "h2", "h3"}
TAGS |= {
    "aside",
    "noscript",
    "kbd",
    "li",
    "mark",
    "ol",
    "p",
    "pre",
    "section",
    "span",
    "summary",
    "svg",
    "rect",
    "title",
    "ul",
}
TAGS |= {"table", "thead", "tbody", "tr", "th", "td", "caption", "form", "input", "select", "option", "label", "button"}
ATTRIBUTES = {"lang", "charset", "name", "content", "http-equiv", "rel", "href", "src", "defer", "type", "class", "id"}
ATTRIBUTES |= {"title", "open", "role", "scope", "tabindex", "action", "method", "value", "selected", "checked", "for"}
ATTRIBUTES |= {"width", "height", "x", "y", "viewbox", "preserveaspectratio", "colspan", "rowspan", "placeholder"}
ATTRIBUTES |= {"inputmode", "min", "max", "step", "size", "hidden"}
PREFIXES = ("aria-", "data-")
ADDRESSES = ("href", "src", "action")


class Asks(NamedTuple):
    """A page as the test asks for it."""

    values: Mapping[str, str]
    query: Mapping[str, str] = {}
    shows: bool = True
    """Does it show a text of a run?"""


def asked_of(key: TrajectoryKey) -> dict[str, list[Asks]]:
    """Every page by its name, in each form that shows other texts."""
    text = key.task_id
    store = {"run": "train+rollouts"}
    one = {**store, "task": text, "sample": "0"}
    runs = [{"run": name} for name in ("train", "train+rollouts", "other", "grades")]
    pair = {"a": f"train+rollouts/{text}/0", "b": f"other/{text}/1"}
    condition = {"q": CANARY, "task": text, "outcome": text, "min_step": text, "tool": text, "sort": text}
    places = ("t1.c1.observation", "t1.c2.change", "t1.c3.code", "t1.reasoning", "prompt1", "patch", "log-tail")
    places += ("fail-to-pass-failing", "error")
    return {
        "runs": [Asks({}, shows=False)],
        "run": [Asks(run) for run in runs],
        "trajectories": [Asks(store), Asks(store, {"q": CANARY}), Asks(store, condition)],
        "groups": [Asks(store), Asks(store, condition)],
        "matrix": [Asks(store), Asks(store, condition)],
        "trajectory": [Asks({**one, "sample": str(n)}, {"audit": "1"}) for n in range(4)]
        + [Asks(one, {"stream": "1"}), Asks(one, {**condition, "from": text})],
        "tokens": [Asks(one, {"by": by}) for by in ("mask", "logprob", "entropy", "alpha")],
        "text": [Asks(one, {"place": place}) for place in places],
        "log": [Asks(one), Asks(one, {"from": text})],
        "compare": [Asks({}, pair), Asks({}, {"a": pair["b"], "b": pair["a"]})],
        "compare-runs": [Asks({}, {"a": "train+rollouts", "b": "other"}), Asks({}, {"a": "other", "b": "grades"})],
        "config": [Asks(runs[0]), Asks(runs[0], {"with": "other"}), Asks(store)],
        "evaluation": [Asks(run) for run in runs[1:]],
        "runlog": [Asks(runs[0]), Asks(runs[0], {"from": text, "q": CANARY, "level": text})],
        "failures": [Asks(run) for run in runs[:3]] + [Asks(store, {"cause": "ValueError", "page": text})],
    }


class Hostile(NamedTuple):
    """Runs full of hostile texts."""

    site: Site
    key: TrajectoryKey

    def html(self, name: str, asks: Asks) -> str:
        """A page, which has to be there."""
        return self.site.html(Asked(Address(name, asks.values, asks.query), ServerLinks(self.site.pages)))


class Checked(HTMLParser):
    """Fails for whatever is not ours. A page that stands `alone` has its scripts in it."""

    def __init__(self, html: str, addresses: tuple[str, ...], alone: bool) -> None:
        super().__init__()
        self._alone = alone
        self.text = ""
        self._addresses = addresses
        self._within = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert tag in TAGS, tag
        for name, value in attrs:
            assert name in ATTRIBUTES or name.startswith(PREFIXES), (tag, name)
            assert name not in ADDRESSES or (value or "").startswith(self._addresses), (tag, name, value)
        if tag == "script":
            assert "src" in given or given.get("type") == "application/json" or self._alone, attrs
        self._within = tag

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data!r}")

    def handle_data(self, data: str) -> None:
        if self._within not in ("script", "style"):
            self.text += data


def check(html: str, addresses: tuple[str, ...] = ("/", "#", "?", "data:,"), *, alone: bool = False) -> Checked:
    """The page's text; fails where it holds anything but our own tags, attributes and addresses."""
    own = html.partition("<script>")[0] if alone else html
    assert readable(own) == own
    own.encode()
    return Checked(html, addresses, alone)


def world(directory: Path, texts: tuple[str, ...]) -> Hostile:
    key = write_world(directory, texts)
    site = Site([directory], PAGES)
    for name in ("train+rollouts", "other"):
        site.index(site.run(name)).build()
    return Hostile(site, key)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("hostile")
        patch.setenv("SWE_AEM_CACHE", str(folder / "cache"))
        made = world(folder / "runs", TEXTS)
        yield made
        made.site.close()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_page_shows_hostile_texts_as_text(hostile: Hostile, page: Page) -> None:
    asked = asked_of(hostile.key)
    assert page.name in asked, f"say in asked_of how the page {page.name} is asked for so that it shows texts of a run"
    for asks in asked[page.name]:
        found = check(hostile.html(page.name, asks))
        assert not asks.shows or CANARY in found.text, (page.name, asks)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=2, phases=[Phase.generate]
)
@given(st.lists(st.text(st.characters(exclude_categories=()), max_size=20), min_size=1, max_size=6))
def test_every_page_shows_any_texts_as_text(tmp_path: Path, texts: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWE_AEM_CACHE", str(tmp_path / "cache"))
        made = world(tmp_path / "runs", (*(f"{text}{CANARY}" for text in texts), "<i>"))
        for name, several in asked_of(made.key).items():
            for asks in several:
                check(made.html(name, asks))
        made.site.close()


@pytest.mark.slow
def test_exports_hold_hostile_texts_as_text(hostile: Hostile, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    export_folder(hostile.site, folder, trajectories=1)
    pages = sorted(folder.rglob("*.html"))
    assert len(pages) > 20
    relative = ("../", "pages/", "static/", "index.html", "#", "data:,")
    texts = {page: check(page.read_text(), relative).text for page in pages}
    assert sum(CANARY in text for text in texts.values()) > 15
    for name in ("train", "other", "grades"):
        write_page(hostile.site, hostile.site.run(name), tmp_path / f"{name}.html")
        html = (tmp_path / f"{name}.html").read_text()
        assert CANARY in check(html, ("#", "data:,"), alone=True).text
