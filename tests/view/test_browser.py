"""The viewer in Debian's Chromium: what a person sees and does, and what the browser says of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from swe_aem.core import Outcome, Response, Stop, TestStatus, ToolCall, Verdict
from swe_aem.store.failures import FailureLog, failed_attempt
from swe_aem.testing.builders import make_trajectory
from swe_aem.view.export import export_folder, export_page
from swe_aem.view.pages import PAGES
from swe_aem.view.server import ViewServer
from swe_aem.view.site import Site
from tests.view.browser import Browser, serving
from tests.view.pages import store_with

pytestmark = [pytest.mark.chromium, pytest.mark.slow, pytest.mark.usefixtures("require_chromium")]

AXIS = "return [...document.querySelector('.chart-place')._fullLayout.xaxis.range]"
"""What the first chart's axis of steps spans."""
ELSEWHERE = "http://elsewhere.invalid/"
HOSTILE = (
    "</script></pre></table></main><script>window.pwned=1</script><img src=x onerror='window.pwned=1'>"
    f"<svg onload='window.pwned=1'><iframe src='{ELSEWHERE}'></iframe><style>@import url({ELSEWHERE})</style>"
    f"<base href='{ELSEWHERE}'><a href='javascript:window.pwned=1'>a</a> javascript:window.pwned=1 "
    f"[a](javascript:window.pwned=1) <form action='{ELSEWHERE}'><button autofocus onfocus='window.pwned=1'>b</button>"
    "\x1b]8;;javascript:window.pwned=1\x07c\x1b]8;;\x07 {{ 7 * 7 }} ${window.pwned=1} '\" onmouseover='window.pwned=1"
)


@pytest.fixture(scope="module")
def browser(require_chromium: None) -> Iterator[Browser]:
    """One browser for all tests of this file."""
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, kit: Any) -> Path:
    """Two training runs, one of which goes on, and a store in which every text is hostile."""
    directory = tmp_path_factory.mktemp("runs")
    for name in ("first", "going"):
        kit.write_run(directory / name)
        (directory / name / "run.log").write_text("2026-01-01T00:00:00.000Z INFO train: it begins\n")
    (directory / "going" / "summary.json").unlink()
    write_hostile(directory / "hostile")
    return directory


@pytest.fixture(scope="module")
def server(runs: Path) -> Iterator[ViewServer]:
    """The viewer of `runs`, indexed."""
    with serving([runs]) as server:
        yield server


@pytest.fixture
def at_desk(browser: Browser, server: ViewServer) -> Browser:
    """The browser, let in by the viewer, at a desk and in daylight, with nothing said so far."""
    browser.look_at(1280, 900)
    browser.open(server.url)
    browser.complaints()
    browser.requests()
    return browser


def write_hostile(directory: Path) -> None:
    """A store and its failures, with the same hostile text wherever a text can be."""
    call = ToolCall(name=HOSTILE, arguments={HOSTILE: HOSTILE}, observation=HOSTILE, exit_code=1, wall_s=1.0)
    response: dict[str, Any] = {"start": 1, "end": 3, "logprobs": (-1.0, -1.0), "version": 0, "finish_reason": "stop"}
    said = {"role": "assistant", "content": HOSTILE, "reasoning_content": HOSTILE}
    verdict = Verdict(
        resolved=False,
        patch_applied=True,
        fail_to_pass={HOSTILE: TestStatus.FAILED},
        stripped_files=(HOSTILE,),
        log_tail=HOSTILE,
    )
    values: dict[str, Any] = {
        "agent": HOSTILE,
        "model": HOSTILE,
        "responses": (Response(**response, sample_s=0.1, tool_calls=(call,)),),
        "messages": ({"role": HOSTILE, "content": HOSTILE}, said, {"role": "tool", "name": "x", "content": HOSTILE}),
        "stop": Stop.SUBMITTED,
        "reward_terms": {HOSTILE: 0.0},
        "timings_s": {HOSTILE: 1.0},
        "patch": f"diff --git a/{HOSTILE} b/{HOSTILE}\n--- a/x\n+++ b/x\n@@ -1 +1 @@ {HOSTILE}\n-{HOSTILE}\n+y\n",
    }
    ended: list[dict[str, Any]] = [
        {"outcome": Outcome.UNRESOLVED, "reward": 0.0, "verdict": verdict},
        {"outcome": Outcome.RESOLVED, "reward": 1.0, "verdict": verdict.model_copy(update={"resolved": True})},
    ]
    store_with(directory, *(make_trajectory(HOSTILE, sample, **values, **end) for sample, end in enumerate(ended)))
    log = FailureLog(directory)
    log.append(failed_attempt(ValueError(HOSTILE), task_id=HOSTILE, sample=0, attempt=1, part="agent", phase="start"))
    log.close()


def hrefs(browser: Browser) -> list[str]:
    """Addresses that the page links to."""
    return browser.ask("return [...document.querySelectorAll('a[href]')].map(one => one.href.split('#')[0])")


def page_of(server: ViewServer, url: str) -> tuple[str, str]:
    """The name of the page at an address, and of the run that it is about."""
    parts = urlsplit(url)
    address = server._address(parts.path, dict(parse_qsl(parts.query)))
    return address.page, address.values.get("run", "")


def walk(browser: Browser, server: ViewServer, runs: set[str], *starts: str) -> Iterator[tuple[str, str]]:
    """Open one page of each kind that links lead to, of runs the first page of each, and yield its name and run."""
    seen, ahead = set(), [server.address + start for start in starts]
    while ahead:
        url = ahead.pop(0)
        kind = page_of(server, url)
        what = kind if kind[0] == "run" else kind[0]
        if what in seen or (kind[1] and kind[1] not in runs):
            continue
        seen.add(what)
        browser.open(url)
        yield kind
        assert all(one.startswith(server.address) for one in hrefs(browser)), kind
        ahead += hrefs(browser)


def test_every_page_is_without_errors_for_everybody_and_fits_a_phone(at_desk: Browser, server: ViewServer) -> None:
    found: dict[str, list[str]] = {}
    visited = set()
    for kind in walk(at_desk, server, {"first", "first+rollouts"}, "/", "/compare-runs?a=first&b=going"):
        visited.add(kind[0])
        at_desk.look_at(390, 844, phone=True)
        width = at_desk.ask("return document.documentElement.scrollWidth")
        wrong = [f"it is {width} pixels wide on a phone"] if width > 390 else []
        at_desk.look_at(1280, 900)
        light = at_desk.ask("return getComputedStyle(document.body).backgroundColor")
        wrong += at_desk.accessibility()
        at_desk.look_at(1280, 900, dark=True)
        if at_desk.ask("return getComputedStyle(document.body).backgroundColor") == light:
            wrong.append("it is as bright in dark mode")
        wrong += at_desk.accessibility("color-contrast") + at_desk.complaints()
        at_desk.look_at(1280, 900)
        found |= {"/".join(kind): wrong} if wrong else {}
    assert found == {}
    assert visited | {"log"} == {page.name for page in PAGES}


def test_charts_are_drawn_and_zoomed(at_desk: Browser, server: ViewServer) -> None:
    at_desk.open(f"{server.address}/first")
    at_desk.until("return document.querySelector('.chart-place .nsewdrag')")
    before = at_desk.ask(AXIS)
    place = at_desk.ask(
        "const one = document.querySelector('.chart-place .nsewdrag'); one.scrollIntoView({block: 'center'});"
        "const box = one.getBoundingClientRect(); return [box.x, box.y, box.width, box.height]"
    )
    x, y, width, height = place
    at_desk.drag((x + width * 0.3, y + height * 0.5), (x + width * 0.6, y + height * 0.5))
    at_desk.until(f"{AXIS}[0] > arguments[0]", before[0])
    low, high = at_desk.ask(AXIS)
    assert before[0] < low < high < before[1]
    assert at_desk.complaints() == []


def test_a_page_that_changes_is_refreshed_and_keeps_what_was_opened(
    at_desk: Browser, server: ViewServer, runs: Path, kit: Any
) -> None:
    hurry = "const wait = setTimeout; window.setTimeout = (what, ms, ...more) => wait(what, Math.min(ms, 100), ...more)"
    script = at_desk.command("Page.addScriptToEvaluateOnNewDocument", source=hurry)["identifier"]
    at_desk.open(f"{server.address}/going")
    at_desk.command("Page.removeScriptToEvaluateOnNewDocument", identifier=script)
    at_desk.until("return document.querySelector('.chart-place .nsewdrag')")
    at_desk.ask("document.querySelector('details[id]').open = true; document.querySelector('main').dataset.old = '1'")
    rows = "return document.querySelector('details[id] tbody').rows.length"
    before = at_desk.ask(rows)
    (runs / "going" / "metrics.jsonl").write_text(kit.jsonl(kit.metrics(41)))
    at_desk.until(f"{rows} > arguments[0]", before)
    assert at_desk.ask("return document.querySelector('details[id]').open")
    assert at_desk.until("return document.querySelector('.chart-place .nsewdrag')")
    assert at_desk.complaints() == []


def test_keys_lead_through_lists_and_trajectories(at_desk: Browser, server: ViewServer) -> None:
    at_desk.open(f"{server.address}/first%2Brollouts/trajectories")
    at_desk.press("/")
    assert at_desk.ask("return document.activeElement.name") == "q"
    at_desk.press("alert\n")
    at_desk.until("return new URLSearchParams(location.search).get('q') === 'alert'")
    at_desk.until("return document.querySelectorAll('table.list tbody th a').length === 5")
    at_desk.ask("document.querySelector('table.list tbody th a').click()")
    at_desk.until("return document.querySelector('[data-key=j]')")
    first = at_desk.driver.current_url
    for key, there in (("j", f"return location.href !== '{first}'"), ("k", f"return location.href === '{first}'")):
        at_desk.press(key)
        at_desk.until(there)
        at_desk.until("return document.readyState === 'complete'")
    at_desk.press("?")
    assert "next trajectory" in at_desk.until("return document.querySelector('dialog[open]')?.textContent")
    at_desk.press("\ue00c")  # Escape
    at_desk.until("return !document.querySelector('dialog')")
    at_desk.press("t")
    at_desk.until("return location.pathname.endsWith('/tokens')")
    assert at_desk.complaints() == []


def test_nothing_in_a_hostile_trajectory_runs_or_is_fetched(at_desk: Browser, server: ViewServer) -> None:
    names = set()
    for name, _ in walk(at_desk, server, {"hostile"}, "/hostile"):
        names.add(name)
        assert harmless(at_desk) == [], name
    assert {"trajectory", "tokens", "text", "failures", "compare", "matrix", "groups", "trajectories", "run"} <= names
    assert {one for one in at_desk.requests() if not one.startswith((server.address, "data:"))} == set()


def harmless(browser: Browser) -> list[str]:
    """What is on a page that could do something, or has done it."""
    script = """
      const forbidden = "iframe, img, base, object, embed, style, form[action^=http]";
      const scripts = "script:not([src]):not([type='application/json'])";
      const acts = ({name, value}) =>
        name.startsWith("on") || (["href", "src", "action"].includes(name) && value.startsWith("javascript:"));
      const found = [...document.querySelectorAll(`${forbidden}, ${scripts}`)];
      found.push(...[...document.querySelectorAll("*")].filter((one) => [...one.attributes].some(acts)));
      return [...(window.pwned ? ["pwned"] : []), ...found.map((one) => one.outerHTML.slice(0, 200))];
    """
    # A page that is not there, or cannot be shown, is a page too: it says so.
    said = [line for line in browser.complaints() if "Failed to load resource" not in line]
    return browser.ask(script) + said


def test_what_is_exported_opens_without_a_server(at_desk: Browser, runs: Path, tmp_path: Path) -> None:
    site = Site([runs / "first", runs / "hostile"], PAGES)
    try:
        folder = export_folder(site, tmp_path / "all", trajectories=2).path
        page = export_page(Site([runs / "first"], PAGES), tmp_path / "one.html").path
    finally:
        site.close()
    at_desk.open("about:blank")
    at_desk.requests()
    at_desk.open(folder.as_uri())
    for text in ("first", "first+rollouts", "trajectories", "t5.1"):
        at_desk.open(at_desk.ask("return [...document.links].find(one => one.text === arguments[0]).href", text))
        assert at_desk.ask("return document.querySelector('h1').textContent").strip()
    at_desk.press("t")
    at_desk.until("return location.pathname.endsWith('/tokens.html')")
    at_desk.open(page.as_uri())
    at_desk.until("return document.querySelector('.chart-place .main-svg')")
    assert at_desk.complaints() == []
    hostile = sorted(folder.parent.glob("pages/hostile/**/*.html"))
    assert len(hostile) > 5
    for path in hostile:
        at_desk.open(path.as_uri())
        assert harmless(at_desk) == [], path
    assert {one for one in at_desk.requests() if not one.startswith(("file:", "data:", "blob:"))} == set()


def test_lists_searches_and_trajectories_need_no_scripts(at_desk: Browser, server: ViewServer) -> None:
    at_desk.scripts(run=False)
    try:
        at_desk.open(f"{server.address}/first%2Brollouts/trajectories")
        at_desk.element("input[name=q]").send_keys("alert\n")
        at_desk.until_at("q=alert")
        rows = at_desk.elements("table.list tbody th a")
        assert [row.text for row in rows] == [f"t{n}.1" for n in range(5, 0, -1)]
        found = rows[0].get_attribute("href")
        assert found
        rows[0].click()
        at_desk.until_at(found)
        assert "alert(1)" in at_desk.element("article.turn").text
        at_desk.open(f"{server.address}/first")
        assert not at_desk.elements(".main-svg")
        at_desk.element("figure.chart summary").click()
        assert at_desk.element("figure.chart table").is_displayed()
    finally:
        at_desk.scripts(run=True)
