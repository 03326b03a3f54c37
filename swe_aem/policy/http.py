"""`Http`: requests to one server, with the errors that tell whether it can have worked on them."""

import asyncio
import itertools
import socket
import ssl
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from swe_aem.errors import PolicyError, UserError
from swe_aem.policy.api_key import bearer
from swe_aem.policy.errors import NothingSampled
from swe_aem.policy.refusals import why_not_connected
from swe_aem.runlog.secrets import without_keys

if TYPE_CHECKING:
    import httpx

_KEEPALIVE_S = 2.0
"""Shorter than the servers' own limit (uvicorn: 5 s), so that no request uses a connection that is being closed."""
_CLIENTS = 32
"""HTTP clients that requests take turns at: a client walks through all of its connections at every request, so one
client with hundreds of connections is slow."""
_JSON = {"content-type": "application/json"}
_PROBES = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 60),
]
"""Signs of life on a connection that waits for a long response, which routers would forget otherwise."""


class Http:
    """A client of the server at one URL. Every error is a `PolicyError` that names the URL."""

    def __init__(
        self, url: str, *, key: str | None, request_timeout_s: float, connect_timeout_s: float, proxy: str | None = None
    ) -> None:
        """`url` is what messages call the server."""
        import httpx

        try:
            httpx.URL(url)
        except httpx.InvalidURL as error:
            raise UserError(f"{url}: not a URL: {error}") from error
        self.url, self._proxy, self._request_timeout_s = url, proxy, request_timeout_s
        trusted = _trusted()
        self._clients = [
            httpx.AsyncClient(
                headers=bearer(key),
                timeout=httpx.Timeout(None, connect=connect_timeout_s),
                transport=httpx.AsyncHTTPTransport(
                    verify=trusted,
                    proxy=proxy,
                    limits=httpx.Limits(max_connections=None, keepalive_expiry=_KEEPALIVE_S),
                    socket_options=_PROBES,
                ),
                trust_env=False,
            )
            for _ in range(_CLIENTS)
        ]
        self._turn = itertools.cycle(self._clients)

    async def send(
        self, method: str, url: str, body: dict[str, Any] | bytes | None = None, *, limit_s: float | None = None
    ) -> "httpx.Response":
        """One attempt at a request, whose body is JSON or is made so. Raises `NothingSampled` if no connection was
        made, and `PolicyError` if the answer was lost. `limit_s` is for requests that may take less time than
        others."""
        import httpx

        limit_s = limit_s or self._request_timeout_s
        limit = asyncio.timeout(limit_s)
        try:
            async with limit:
                client = next(self._turn)
                if isinstance(body, bytes):
                    return await client.request(method, url, content=body, headers=_JSON)
                return await client.request(method, url, json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, httpx.UnsupportedProtocol) as error:
            raise NothingSampled(why_not_connected(self.url, error, self._proxy)) from error
        except httpx.HTTPError as error:
            cause = without_keys(f"{type(error).__name__}: {error}")
            plain = isinstance(error, httpx.RemoteProtocolError) and url.startswith("http://")
            hint = "; if the server speaks https, write https://" if plain else ""
            raise PolicyError(f"the request to {self.url} failed: {cause}{hint}") from error
        except TimeoutError as error:
            if limit.expired():
                raise PolicyError(f"{self.url} gave no answer in {limit_s:g} s") from error
            raise

    async def close(self) -> None:
        """Close all connections; idempotent."""
        for client in self._clients:
            await client.aclose()


@cache
def _trusted() -> ssl.SSLContext:
    """The authorities that this host trusts, which take a while to read."""
    return ssl.create_default_context()


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for a URL (HTTPS_PROXY, ALL_PROXY, NO_PROXY); none for this host."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host in ("localhost", "::1") or host.startswith("127.") or proxy_bypass(host):
        return None
    proxies = getproxies_environment()
    return proxies.get(parts.scheme) or proxies.get("all")
