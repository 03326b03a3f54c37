"""A registry's HTTP interface (https://distribution.github.io/distribution/spec/api/), spoken without an engine."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Self
from urllib.parse import urlsplit

import httpx

from swe_aem.sandbox.images.failures import PullError, PullFailure, classify
from swe_aem.sandbox.images.pack.manifest import ACCEPTED, Descriptor, digest_of, malformed
from swe_aem.sandbox.images.reference import Reference
from swe_aem.sandbox.images.registries import api_url
from swe_aem.sandbox.images.registry_wait import parse_retry_after

_CONNECT_S, _ANSWER_S = 20.0, 90.0
_PARAMETER = re.compile(r'([a-zA-Z_]+)="([^"]*)"')


class RegistryClient:
    """Asks registries for manifests and blobs; an async context manager. Tokens are kept for each repository."""

    def __init__(self) -> None:
        timeout = httpx.Timeout(_ANSWER_S, connect=_CONNECT_S, pool=None)
        limits = httpx.Limits(max_connections=None)
        self._http = httpx.AsyncClient(timeout=timeout, limits=limits, follow_redirects=True)
        self._authorizations: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._http.aclose()

    async def manifest(self, reference: Reference, auth: Mapping[str, str] | None, at_most_bytes: int) -> bytes:
        """The manifest of a tag or digest; raises `PullError`. A digest is checked."""
        url = f"{api_url(reference)}/manifests/{reference.digest or reference.tag}"
        content = await self._small(reference, url, auth, at_most_bytes)
        if reference.digest is not None and digest_of(content) != reference.digest:
            raise PullError(PullFailure.CORRUPT, f"manifest {reference.digest} does not have that digest")
        return content

    async def config(
        self, reference: Reference, blob: Descriptor, auth: Mapping[str, str] | None, at_most_bytes: int
    ) -> bytes:
        """A small blob, checked; raises `PullError`."""
        content = await self._small(reference, f"{api_url(reference)}/blobs/{blob.digest}", auth, at_most_bytes)
        if digest_of(content) != blob.digest:
            raise PullError(PullFailure.CORRUPT, f"configuration {blob.digest} does not have that digest")
        return content

    @asynccontextmanager
    async def blob(
        self, reference: Reference, digest: str, auth: Mapping[str, str] | None, start_bytes: int
    ) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """A blob's bytes from `start_bytes` on, or from 0 where the registry does not begin later; where they begin,
        and the bytes. Raises `PullError`, also while they are read."""
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start_bytes}-"} if start_bytes else {})
        url = f"{api_url(reference)}/blobs/{digest}"
        async with self._answer(reference, url, auth, headers) as response:
            begins = start_bytes if response.status_code == httpx.codes.PARTIAL_CONTENT else 0
            yield begins, response.aiter_raw(1 << 20)

    async def _small(self, reference: Reference, url: str, auth: Mapping[str, str] | None, at_most_bytes: int) -> bytes:
        content = bytearray()
        async with self._answer(reference, url, auth, {"Accept": ", ".join(ACCEPTED)}) as response:
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > at_most_bytes:
                    raise malformed(f"{urlsplit(url).path} has more than {at_most_bytes} bytes")
        return bytes(content)

    @asynccontextmanager
    async def _answer(
        self, reference: Reference, url: str, auth: Mapping[str, str] | None, headers: Mapping[str, str]
    ) -> AsyncIterator[httpx.Response]:
        """A successful answer; after a refusal the registry is asked once more, with what it wants to see."""
        key = f"{reference.registry}/{reference.repository}"
        try:
            for attempt in (1, 2):
                own = {"Authorization": self._authorizations[key]} if key in self._authorizations else {}
                async with self._http.stream("GET", url, headers={**headers, **own}) as response:
                    if response.status_code == httpx.codes.UNAUTHORIZED and attempt == 1:
                        self._authorizations.pop(key, None)
                        challenge = response.headers.get("WWW-Authenticate", "")
                    elif response.is_success:
                        yield response
                        return
                    else:
                        raise await _refusal(response)
                self._authorizations[key] = await self._authorization(challenge, auth)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            raise PullError(PullFailure.UNREACHABLE, f"{urlsplit(url).netloc}: {_said(error)}") from None
        except (httpx.TransportError, httpx.TooManyRedirects, httpx.InvalidURL, httpx.DecodingError) as error:
            raise PullError(PullFailure.OTHER, f"the connection broke: {_said(error)}") from None

    async def _authorization(self, challenge: str, auth: Mapping[str, str] | None) -> str:
        """The header that a challenge asks for (RFC 9110, 11.6; https://distribution.github.io/distribution/spec/auth/).

        Raises `PullError` if there are no credentials for it, or they are refused.
        """
        known = {key.lower(): value for key, value in (auth or {}).items()}
        basic = httpx.BasicAuth(known["username"], known["password"]) if known.get("password") else None
        scheme, _, rest = challenge.partition(" ")
        wanted = dict(_PARAMETER.findall(rest))
        if scheme.lower() == "basic" and basic is not None:
            return next(basic.auth_flow(httpx.Request("GET", "http://registry"))).headers["Authorization"]
        if scheme.lower() != "bearer" or "realm" not in wanted:
            raise PullError(PullFailure.DENIED, "authentication required: `docker login` to that registry")
        asked = {key: wanted[key] for key in ("service", "scope") if key in wanted}
        if known.get("identitytoken"):
            form = {"grant_type": "refresh_token", "refresh_token": known["identitytoken"], "client_id": "swe-aem"}
            response = await self._http.post(wanted["realm"], data={**asked, **form})
        else:
            response = await self._http.get(wanted["realm"], params=asked, auth=basic)
        if not response.is_success:
            raise await _refusal(response)
        try:
            answer = response.json()
            return f"Bearer {answer.get('token') or answer['access_token']}"
        except (ValueError, KeyError, AttributeError):
            raise PullError(PullFailure.OTHER, f"{wanted['realm']} gave no token") from None


async def _refusal(response: httpx.Response) -> PullError:
    """What a registry said, with how long it wants to be left alone if it says so."""
    said = (await response.aread())[:1000].decode("utf-8", "replace").strip()
    status, said = response.status_code, said or response.reason_phrase
    if status == httpx.codes.TOO_MANY_REQUESTS:
        wait_s = parse_retry_after(response.headers.get("Retry-After"))
        return PullError(PullFailure.RATE_LIMITED, said + ("" if wait_s is None else f" (retry-after: {wait_s:g}s)"))
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return PullError(PullFailure.DENIED, said)
    if status == httpx.codes.NOT_FOUND:
        return PullError(PullFailure.MISSING, said)
    return PullError(classify(said), f"status {status}: {said}")


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
