"""`ViewServer`: the pages of a `Site` over HTTP, for whoever has the token.

    GET /?token=TOKEN      sets a cookie, and leads to the page without the token, so that links hold none
    GET /static/NAME       style sheet, scripts, the library that draws charts
    GET any page           HTML; 404 for what is not there

Text of policies and repositories is on these pages, so nothing but the server's own files may run or be loaded
(content security policy), and no other site may frame, read or post to them.
"""

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlencode

from swe_aem.errors import UserError
from swe_aem.view.site import STATIC, Address, Asked, NotThere, Page, Shown, Site

if TYPE_CHECKING:
    from aiohttp import web

PLOTLY = "plotly.min.js"
_THREADS = 4
"""Pages that are made at once."""
_COOKIE = "swe_aem_view"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def static_file(name: str) -> Path | None:
    """The file behind a name of `static`, None if there is none."""
    if name == PLOTLY:
        spec = find_spec("plotly")
        assert spec is not None
        assert spec.origin is not None
        return Path(spec.origin).parent / "package_data" / PLOTLY
    path = STATIC / name
    return path if re.fullmatch(r"[\w.-]+", name) and path.is_file() else None


class ServerLinks:
    """Addresses as paths from the root of the server."""

    exported = alone = False
    policy = ""

    def __init__(self, pages: dict[str, Page]) -> None:
        self._pages = pages

    def to(self, address: Address, at: Address) -> str:
        """The path and query of an address."""
        path = self._pages[address.page].filled(address.values, _quoted)
        return f"{path}?{urlencode(address.query, errors='surrogatepass')}" if address.query else path

    def static(self, name: str, at: Address) -> str:
        """The path of a file of `static`."""
        return f"/static/{name}"


def _quoted(value: str) -> str:
    """A value as one segment of a path; one that a browser would take for a step upwards is marked."""
    text = quote(value, safe="", errors="surrogatepass")
    return text.replace(".", "%2E") if text.strip(".") == "" else text


class ViewServer:
    """Serves a site. Use as an async context manager; `url` holds the token."""

    def __init__(self, site: Site, *, host: str = "127.0.0.1", port: int = 0, token: str | None = None) -> None:
        """`port` 0 takes a free one. Raises `UserError` on entering if the address cannot be had."""
        self._site, self._host, self._port = site, host, port
        self._token = token or secrets.token_urlsafe(16)
        self._links = ServerLinks(site.pages)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="page")
        self._routes = [(re.compile(_pattern(page.path)), page) for page in site.pages.values()]
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where the first page is, with the token."""
        return f"{self.address}/?token={self._token}"

    @property
    def address(self) -> str:
        """`http://host:port`."""
        assert self._runner is not None
        host, port = self._runner.addresses[0][:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def __aenter__(self) -> "ViewServer":
        from aiohttp import web

        app = web.Application()
        app.router.add_get("/{path:.*}", self._guarded)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise UserError(
                f"{self._host}:{self._port} cannot be had ({error.strerror}); give another --port, or --port 0 for a "
                "free one"
            ) from None
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._site.close()

    async def _guarded(self, request: "web.Request") -> "web.StreamResponse":
        """Only for who has the token; every answer bears the headers."""
        from aiohttp import web

        if (given := request.query.get("token")) is not None and self._is_token(given):
            rest = {name: value for name, value in request.query.items() if name != "token"}
            answer = web.Response(status=303, headers={"Location": str(request.rel_url.with_query(rest))})
            answer.set_cookie(self._cookie, self._token, httponly=True, samesite="Strict", path="/")
        elif self._is_token(request.cookies.get(self._cookie, "")):
            answer = await self._answer(request)
        else:
            text = "The token is missing or wrong: open the address that `swe-aem view` printed, ?token=... included.\n"
            answer = web.Response(status=403, text=text)
        answer.headers.update(_HEADERS)
        return answer

    @property
    def _cookie(self) -> str:
        """Cookies are shared by the ports of a host, and two viewers must not log each other out."""
        return f"{_COOKIE}_{hashlib.sha256(self._token.encode()).hexdigest()[:8]}"

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode())

    async def _answer(self, request: "web.Request") -> "web.StreamResponse":
        from aiohttp import web

        path = request.rel_url.raw_path
        if path.startswith("/static/"):
            file = static_file(path.removeprefix("/static/"))
            if file is None:
                return web.Response(status=404, text="no such file\n")
            return web.FileResponse(file, headers={"Content-Type": _TYPES[file.suffix]})
        asked = Asked(self._address(path, dict(request.query)), self._links)
        status, html = await asyncio.get_running_loop().run_in_executor(self._threads, self._page, asked)
        tag = f'"{hashlib.sha256(html).hexdigest()[:20]}"'
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers={"ETag": tag})
        return web.Response(status=status, body=html, content_type="text/html", charset="utf-8", headers={"ETag": tag})

    def _address(self, path: str, query: dict[str, str]) -> Address:
        for pattern, page in self._routes:
            if match := pattern.fullmatch(path):
                try:
                    values = {name: unquote(value, errors="surrogatepass") for name, value in match.groupdict().items()}
                except UnicodeDecodeError:  # no link leads there
                    break
                return Address(page.name, values, query)
        return Address("", {}, query)

    def _page(self, asked: Asked) -> tuple[int, bytes]:
        try:
            return 200, self._site.html(asked).encode()
        except NotThere as error:
            return 404, self._problem(asked, "Not found", str(error))
        except UserError as error:
            return 500, self._problem(asked, "This cannot be shown", str(error))
        except Exception as error:  # one page's defect, or a file that was taken away, must not leave a blank page
            logging.getLogger(__name__).exception("a page cannot be shown")
            text = f"{type(error).__name__}: {error}. The terminal of `swe-aem view` shows where."
            return 500, self._problem(asked, "This cannot be shown", text)

    def _problem(self, asked: Asked, title: str, text: str) -> bytes:
        shown = Shown(template="problem.html.jinja", title=title, values={"text": text})
        return self._site.written(shown, asked).encode()


def _pattern(path: str) -> str:
    """A path with holes as a regular expression of raw paths."""
    return re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(path))
