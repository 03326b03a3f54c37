"""The pages that are lists: what is in their addresses is what they show, also of hostile stores."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swe_aem.core import Outcome, Response, ToolCall
from swe_aem.store.graded import write_graded
from swe_aem.testing.builders import make_trajectory
from swe_aem.view.index import Filter, Order
from swe_aem.view.listed import Listed, listed
from swe_aem.view.pages import PAGES
from swe_aem.view.server import ServerLinks
from swe_aem.view.site import Address, Asked, NotThere, Site
from tests.view.index.stores import write_store

HOSTILE = "</td></table><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m\0\udcff\u202e{{ 7 * 7 }}"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWE_AEM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A store of six trajectories of three tasks, one of them hostile."""
    tool = ToolCall(name=HOSTILE, arguments={"command": f"grep _parse_header {HOSTILE}"}, observation=HOSTILE)
    response = Response(
        start=2, end=4, logprobs=(-1.0, -1.0), version=0, finish_reason="stop", sample_s=1.0, tool_calls=(tool,)
    )
    several = [
        make_trajectory("a", 0),
        make_trajectory("a", 1, outcome=Outcome.UNRESOLVED, reward=0.0),
        make_trajectory("b", 0, outcome=Outcome.INFRASTRUCTURE, reward=None, error="the disk is full"),
        make_trajectory("c,d%", 0, outcome=Outcome.UNRESOLVED, reward=0.0),
        make_trajectory("c,d%", 1, outcome=Outcome.UNRESOLVED, reward=0.0),
        make_trajectory(HOSTILE, 0, model=HOSTILE, agent=HOSTILE, error=HOSTILE, patch=HOSTILE, responses=(response,)),
    ]
    write_store(tmp_path / "runs" / "one", several)
    site = Site([tmp_path / "runs"], PAGES)
    site.index(site.run("one")).build()
    yield site
    site.close()


def html(site: Site, page: str, query: dict[str, str] | None = None, run: str = "one") -> str:
    """A page of the site."""
    values = {} if page == "runs" else {"run": run}
    return site.html(Asked(Address(page, values, query or {}), ServerLinks(site.pages)))


def ids(text: str) -> list[str]:
    """Trajectories that a page lists."""
    return re.findall(r'<th scope="row">(?:<a [^>]*>)?([^<]*)', text)


class Tags(HTMLParser):
    """The elements of a page, and the attributes that could run something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.handlers: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.handlers |= {name for name, _ in attrs if name.startswith("on")}


CONDITIONS = st.fixed_dictionaries(
    {},
    optional={
        "text": st.text(min_size=1).map(str.strip).filter(bool),
        "text_in": st.sampled_from(("patch", "failure")),
        "outcomes": st.lists(st.sampled_from(list(Outcome)), min_size=1).map(tuple),
        "tasks": st.lists(st.text("ab,%2C ", min_size=1).filter(str.strip), min_size=1, max_size=3).map(
            lambda several: tuple(one.strip() for one in several)
        ),
        "resolved": st.booleans(),
        "min_step": st.integers(0, 99),
        "max_reward": st.floats(0, 1),
    },
)


@given(
    conditions=CONDITIONS,
    by=st.sampled_from(("written", "tokens", "task")),
    down=st.booleans(),
    number=st.integers(1, 9),
)
def test_an_address_says_which_list_it_is(conditions: dict, by: str, down: bool, number: int) -> None:
    there = Listed(
        filter=Filter(**conditions), order=Order.model_validate({"by": by, "descending": down}), number=number
    )
    assert listed(there.query()) == there


def test_what_is_no_condition_is_left_out_and_said() -> None:
    found = listed({"min_step": "soon", "outcome": "resolved,won", "page": "-1", "size": "1000000", "sort": "; DROP"})
    assert found.filter == Filter()
    assert [problem.partition(" is left out")[0] for problem in found.problems] == [
        "outcome=resolved,won",
        "min_step=soon",
    ]
    assert (found.number, found.size, found.order) == (1, 250, Order())


def test_trajectories_are_listed_filtered_sorted_and_searched(site: Site) -> None:
    assert ids(html(site, "trajectories"))[-1] == "a.0"
    assert ids(html(site, "trajectories", {"outcome": "unresolved", "sort": "task", "way": "up"})) == [
        "a.1",
        "c,d%.0",
        "c,d%.1",
    ]
    assert ids(html(site, "trajectories", {"q": "disk is fu"})) == ["b.0"]
    searched = html(site, "trajectories", {"q": "_parse_header"})
    assert "<mark>parse_header</mark>" in searched
    assert "No trajectory is like this" in html(site, "trajectories", {"q": "nowhere"})
    assert "no letter or digit" in html(site, "trajectories", {"q": "=="})


def test_a_facet_narrows_the_list_and_can_be_taken_back(site: Site) -> None:
    page = html(site, "trajectories")
    href = re.search(r'href="([^"]*)" aria-label="only outcome unresolved"', page)
    assert href is not None
    assert "outcome=unresolved" in href[1]
    page = html(site, "trajectories", {"outcome": "unresolved"})
    assert 'aria-current="true" aria-label="leave out outcome unresolved"' in page


def test_groups_and_solve_rates_lead_to_their_trajectories(site: Site) -> None:
    groups = html(site, "groups", {"flat": "yes"})
    assert ids(groups)[:1] == ["c,d%"] or "c,d%" in ids(groups)
    assert "a" not in ids(groups)
    assert "1 of 2" in html(site, "groups")
    matrix = html(site, "matrix")
    href = next(one for one in re.findall(r'<th scope="row"><a href="([^"]*)"', matrix) if "252C" in one)
    query = {"task": "c%2Cd%25"}
    assert "task=c%252Cd%2525" in href
    assert ids(html(site, "trajectories", query)) == ["c,d%.1", "c,d%.0"]


@pytest.mark.parametrize("page", ["runs", "run", "trajectories", "groups", "matrix"])
def test_hostile_content_is_text(site: Site, page: str) -> None:
    for query in ({}, {"q": "alert", "task": HOSTILE, "outcome": HOSTILE, "min_step": HOSTILE}, {"q": "alert"}):
        text = html(site, page, query)
        assert not Tags(text).handlers
        assert not {"script", "img"} & Tags(text[text.index("<main") :]).names
        assert not set(text) & {"\0", "\x1b", "\u202e"}
        assert "{{ 7" in text or "alert" not in text
        text.encode()


def test_the_first_page_of_a_store_counts_and_leads_to_lists(site: Site, tmp_path: Path) -> None:
    page = html(site, "run")
    assert "2 of 5 that count, 40.0 %" in page
    assert re.search(r'href="[^"]*outcome=unresolved">', page) is not None
    assert re.search(r'href="[^"]*cause=the\+disk\+is\+full">', page) is not None
    (tmp_path / "runs" / "one" / "summary.json").write_text("{")
    assert "summary.json cannot be read" in html(site, "run")


def test_solve_rates_say_which_tasks_cannot_be_compared(site: Site, tmp_path: Path) -> None:
    assert "No task has trajectories both up to sample 5 and after it" in html(site, "matrix", {"pivot": "5"})
    assert "2 of 4 tasks have trajectories both up to sample 0 and after it" in html(site, "matrix", {"pivot": "0"})
    write_store(tmp_path / "runs" / "two", [make_trajectory("a", sample) for sample in range(2)])
    site.index(site.run("two")).build()
    assert "both up to" not in html(site, "matrix", {"pivot": "0"}, run="two")


def test_runs_are_listed_with_how_far_they_are(site: Site, tmp_path: Path) -> None:
    (tmp_path / "runs" / "grades").mkdir()
    write_graded(tmp_path / "runs" / "grades", [])
    page = html(site, "runs")
    assert "resolved 2, unresolved 3, infrastructure 1" in page
    assert ids(page) == ["grades", "one"]
    with pytest.raises(NotThere, match="no trajectories"):
        html(site, "trajectories", run="grades")
