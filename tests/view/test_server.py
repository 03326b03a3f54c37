"""The server: who may look, what may run in a page, and that paths lead where links say."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swe_aem.errors import UserError
from swe_aem.view.pages import PAGES
from swe_aem.view.server import ServerLinks, ViewServer
from swe_aem.view.site import Address, Asked, Page, Shown, Site


def echo(site: Site, asked: Asked) -> Shown:
    text = f"{asked.values['word']}|{asked.query.get('q', '')}"
    return Shown(template="problem.html.jinja", title="echo", values={"text": text})


def broken(site: Site, asked: Asked) -> Shown:
    raise PermissionError(13, "Permission denied", "<b>runs</b>")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ViewServer]:
    async with ViewServer(
        Site([tmp_path], (*PAGES, Page("echo", "/echo/{word}", echo), Page("broken", "/broken/{word}", broken)))
    ) as server:
        yield server


async def test_pages_are_for_whoever_has_the_token(server: ViewServer) -> None:
    async with httpx.AsyncClient(follow_redirects=True) as client:
        for path in ("/", "/?token=wrong", "/static/view.js", "/echo/a", "/nothing"):
            answer = await client.get(server.address + path)
            assert answer.status_code == 403
            assert "?token=" in answer.text
        answer = await client.get(server.url)
        assert answer.status_code == 200
        assert "token" not in str(answer.url)  # a link that is passed on holds no secret
        assert (await client.get(f"{server.address}/static/view.js")).headers["content-type"] == "text/javascript"
        assert (await client.get(f"{server.address}/nothing/at/all")).status_code == 404


async def test_two_viewers_on_one_host_do_not_log_each_other_out(server: ViewServer, tmp_path: Path) -> None:
    async with ViewServer(Site([tmp_path], PAGES)) as other, httpx.AsyncClient(follow_redirects=True) as client:
        for one in (server, other, server):
            await client.get(one.url)
        assert {(await client.get(one.address + "/")).status_code for one in (server, other)} == {200}


async def test_every_answer_says_that_nothing_from_elsewhere_may_run(server: ViewServer) -> None:
    async with httpx.AsyncClient() as client:
        for url in (server.url, server.address + "/x", server.address + "/static/style.css"):
            policy = (await client.get(url)).headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "script-src 'self';" in policy


async def test_an_unchanged_page_is_not_sent_again(server: ViewServer) -> None:
    async with httpx.AsyncClient(follow_redirects=True) as client:
        first = await client.get(server.url)
        again = await client.get(server.address + "/", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


async def test_files_outside_of_static_are_not_there(server: ViewServer) -> None:
    async with httpx.AsyncClient(follow_redirects=True) as client:
        await client.get(server.url)
        for name in ("../site.py", "%2e%2e/site.py", "..%2fsite.py", ".", "%00", "a/b"):
            request = httpx.Request("GET", server.address)
            request.url = httpx.URL(server.address, raw_path=f"/static/{name}".encode())
            request.headers["cookie"] = "; ".join(f"{key}={value}" for key, value in client.cookies.items())
            assert (await client.send(request)).status_code == 404


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(word=st.text(min_size=1), q=st.text(st.characters(exclude_categories=["Cs"])))
def test_a_link_leads_to_its_address(tmp_path: Path, word: str, q: str) -> None:
    site = Site([tmp_path], (Page("echo", "/echo/{word}", echo),))
    there = Address("echo", {"word": word}, {"q": q} if q else {})
    href = ServerLinks(site.pages).to(there, there)
    parts = urlsplit(href)
    query = dict(httpx.QueryParams(parts.query))
    assert ViewServer(site)._address(parts.path, query) == there


async def test_a_port_that_is_taken_is_said(server: ViewServer, tmp_path: Path) -> None:
    port = int(server.address.rpartition(":")[2])
    with pytest.raises(UserError, match="give another --port"):
        async with ViewServer(Site([tmp_path], PAGES), port=port):
            pass


@pytest.mark.parametrize(("path", "status"), [("/echo/%ff", 404), ("/echo/%", 200), ("/broken/a", 500)])
async def test_what_cannot_be_shown_is_said_on_a_page_of_the_viewer(
    server: ViewServer, path: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with httpx.AsyncClient(follow_redirects=True) as client:
        await client.get(server.url)
        answer = await client.get(server.address + path)
        assert answer.status_code == status
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert 'href="/"' in answer.text  # the way back
        assert "<b>" not in answer.text
    if status == 500:
        assert "Permission denied" in answer.text
        assert "in broken" in caplog.text
