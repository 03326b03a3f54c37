"""An engine's image endpoints over docker's REST API (https://docs.docker.com/reference/api/engine/), which podman's
service speaks too.

Not the docker SDK: its pull blocks a thread that nothing can cancel, without any timeout. Here a cancelled await closes
the connection, and the engine then stops the pull.
"""

import hashlib
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from swe_aem.core.base import Frozen
from swe_aem.core.owner import Lease
from swe_aem.errors import InfrastructureError, UserError
from swe_aem.sandbox.engines import DOCKER, EngineKind
from swe_aem.sandbox.images.reference import Reference

CALL_TIMEOUT_S = 300.0
"""Removing a large image takes the engine this long on a busy disk."""
CONNECT_TIMEOUT_S = 10.0
LEASE_LABEL = "swe-aem.lease"
LAYER_LABEL = "swe-aem.layer-of"
"""Label of a kept layer: the id of the image that it lies on."""


class EngineError(InfrastructureError):
    """The engine refused a request."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"engine: {message}")
        self.status = status
        """HTTP status; 0 for an error in the middle of a stream."""
        self.message = message


class EngineImage(Frozen):
    """An image on the engine."""

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    """`name@sha256:...`, one for each repository that it came from."""
    size_bytes: int
    """Size in bytes, including layers that it shares with other images."""
    labels: dict[str, str] = {}
    env: tuple[str, ...] = ()
    """Its environment as `NAME=value`; empty in a listing, which does not tell it."""

    @property
    def layer_of(self) -> str | None:
        """Id of the image that this one is a kept layer on; None for every other image."""
        return self.labels.get(LAYER_LABEL)

    @property
    def names(self) -> tuple[str, ...]:
        """Every tag and digest of the image."""
        return self.tags + self.digests


class Engine:
    """One engine; `connect` makes it."""

    def __init__(self, http: httpx.AsyncClient, prefix: str, kind: EngineKind = DOCKER) -> None:
        self._http = http
        self._prefix = prefix
        self.kind = kind

    @property
    def place(self) -> str:
        """How errors about an image call the engine."""
        return "the engine"

    def how_to_remove(self, reference: Reference) -> str:
        """What a user does to be rid of an image."""
        return f"remove that image (`{self.kind.name} rmi {reference.familiar}`)"

    async def images(self) -> list[EngineImage]:
        """Every image that has a name."""
        found = []
        for row in await self._json("GET", "/images/json"):
            tags, digests = self._names(row)
            if tags or digests:
                labels = row.get("Labels") or {}
                found.append(
                    EngineImage(id=row["Id"], tags=tags, digests=digests, size_bytes=row["Size"], labels=labels)
                )
        return found

    async def inspect(self, name: str) -> EngineImage | None:
        """One image by name or id; None if there is none."""
        try:
            row = await self._json("GET", f"/images/{_quoted(name)}/json")
        except EngineError as error:
            if error.status == 404:
                return None
            raise
        tags, digests = self._names(row)
        labels, env = row["Config"].get("Labels") or {}, tuple(row["Config"].get("Env") or ())
        return EngineImage(id=row["Id"], tags=tags, digests=digests, size_bytes=row["Size"], labels=labels, env=env)

    def _names(self, row: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Tags and digests of an image, as they are written."""
        tags, digests = row["RepoTags"] or (), row["RepoDigests"] or ()
        return (
            tuple(self.kind.short_name(tag) for tag in tags if tag != "<none>:<none>"),
            tuple(self.kind.short_name(digest) for digest in digests if not digest.startswith("<none>")),
        )

    async def layer_sizes(self, name: str) -> dict[str, int]:
        """Sizes of an image's layers in bytes; images that share a layer have it under the same key. Empty if there is
        no such image.

        The history has sizes, and steps that made no layer; the layers have digests. A step of some size made a layer,
        so its key has both the steps and the digests up to it.
        """
        try:
            digests = (await self._json("GET", f"/images/{_quoted(name)}/json"))["RootFS"].get("Layers") or []
            steps = await self._json("GET", f"/images/{_quoted(name)}/history") or []
        except EngineError as error:
            if error.status == 404:
                return {}
            raise
        sizes: dict[str, int] = {}
        key = ""
        for step in reversed(steps):  # the latest comes first
            digest = digests[min(len(sizes), len(digests) - 1)] if step["Size"] and digests else ""
            text = f"{key} {digest} {step['Created']} {step['Size']} {step['CreatedBy']}"
            key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
            if step["Size"]:
                sizes[key] = step["Size"]
        return sizes

    async def pull(self, reference: Reference, auth: Mapping[str, str] | None) -> AsyncIterator[dict[str, Any]]:
        """The engine's messages while it pulls; raises `EngineError`. No timeout: the caller watches the progress.

        `auth` is the value of an X-Registry-Auth header, before its encoding.
        """
        headers = {"X-Registry-Auth": encode_auth(auth)} if auth else {}
        params = {"fromImage": reference.name, "tag": reference.digest or reference.tag or "latest"}
        async for message in self._messages("/images/create", timeout_s=None, params=params, headers=headers):
            yield message

    async def build(self, context: bytes, name: str) -> None:
        """Build an image from a tar archive with a Dockerfile, without a network; raises `EngineError`."""
        params = {"t": name, "networkmode": "none", "rm": "1", "forcerm": "1"}
        headers = {"Content-Type": "application/x-tar"}
        request = {"params": params, "headers": headers, "content": context}
        async for _ in self._messages("/build", timeout_s=CALL_TIMEOUT_S, **request):
            pass

    async def _messages(self, path: str, *, timeout_s: float | None, **request: Any) -> AsyncIterator[dict[str, Any]]:
        """The engine's progress messages during a long request; raises `EngineError`."""
        timeout = httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
        try:
            async with self._http.stream("POST", self._prefix + path, timeout=timeout, **request) as response:
                if response.status_code >= 400:
                    raise _error(response.status_code, await response.aread())
                async for line in _lines(response):
                    message = json.loads(line)
                    if "error" in message:
                        raise EngineError(0, message["error"].strip())
                    yield message
        except httpx.TransportError as error:
            raise EngineError(0, f"the connection broke: {error!r}") from error

    async def tag(self, name: str, reference: Reference) -> None:
        """Give an image another name. A reference with a digest cannot be given."""
        await self._json("POST", f"/images/{_quoted(name)}/tag", params={"repo": reference.name, "tag": reference.tag})

    async def remove(self, name: str) -> None:
        """Take a name from an image; the image goes with its last one. Raises `EngineError` with status 409 if a
        container uses it. A name that is gone already is no error."""
        try:
            await self._json("DELETE", f"/images/{_quoted(name)}")
        except EngineError as error:
            if error.status != 404:
                raise

    async def users(self) -> dict[str, str]:
        """Image id to the name of a container made of it, running or not."""
        rows = await self._json("GET", "/containers/json", params={"all": "1"})
        return {row["ImageID"]: row["Names"][0].removeprefix("/") if row["Names"] else row["Id"] for row in rows}

    async def data_root(self) -> Path | None:
        """Directory in which the engine keeps images; None if it is on another host."""
        info = await self._json("GET", "/info")
        root = Path(info["DockerRootDir"])
        return root if info["Name"] == socket.gethostname() and root.is_dir() else None

    @asynccontextmanager
    async def export(self, image_id: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """The image's whole file system as a tar stream, layers merged, from a container that is never started."""
        body = {"Image": image_id, "Cmd": ["true"], "Labels": {LEASE_LABEL: Lease.start(3600).model_dump_json()}}
        container = (await self._json("POST", "/containers/create", content=json.dumps(body)))["Id"]
        try:
            request = self._http.stream("GET", f"{self._prefix}/containers/{container}/export")
            async with request as response:
                if response.status_code >= 400:
                    raise _error(response.status_code, await response.aread())
                yield response.aiter_bytes()
        finally:
            await self._json("DELETE", f"/containers/{container}", params={"force": "1", "v": "1"})

    async def _json(self, method: str, path: str, **request: Any) -> Any:
        try:
            headers = {"Content-Type": "application/json"} if "content" in request else {}
            response = await self._http.request(method, self._prefix + path, headers=headers, **request)
        except httpx.TransportError as error:
            raise InfrastructureError(f"{self.kind.name} engine: {method} {path}: {error!r}") from error
        if response.status_code >= 400:
            raise _error(response.status_code, response.content)
        return response.json() if response.content.strip().startswith((b"{", b"[")) else None


@asynccontextmanager
async def connect(kind: EngineKind = DOCKER) -> AsyncIterator[Engine]:
    """This user's engine of that kind; raises `UserError` if none answers at its address."""
    host = kind.address
    transport, base = _transport(host, kind.variable)
    async with httpx.AsyncClient(
        transport=transport,
        base_url=base,
        trust_env=False,
        timeout=httpx.Timeout(CALL_TIMEOUT_S, connect=CONNECT_TIMEOUT_S, pool=None),
    ) as http:
        try:
            ping = await http.get("/_ping", timeout=CONNECT_TIMEOUT_S)
        except httpx.TransportError as error:
            raise UserError(
                f"no {kind.name} engine answers at {host}: {error or type(error).__name__}. {kind.how_to_start} or set "
                f"{kind.variable}"
            ) from None
        if ping.status_code != 200:
            raise UserError(
                f"{host} does not answer like a {kind.name} engine (status {ping.status_code}); see {kind.variable}"
            )
        version = ping.headers.get("Api-Version")
        yield Engine(http, f"/v{version}" if version else "", kind)


def encode_auth(auth: Mapping[str, str]) -> str:
    """The value of an X-Registry-Auth header."""
    import base64

    return base64.urlsafe_b64encode(json.dumps(dict(auth)).encode()).decode()


def _transport(host: str, variable: str) -> tuple[httpx.AsyncHTTPTransport, str]:
    scheme, _, address = host.partition("://")
    limits = httpx.Limits(max_connections=None)
    if scheme == "unix":
        return httpx.AsyncHTTPTransport(uds=f"/{address.lstrip('/')}", limits=limits), "http://docker"
    if scheme not in ("tcp", "http", "https"):
        raise UserError(
            f"{variable}={host}: unknown scheme; use unix:// or tcp://, or forward the engine's socket "
            f"(`ssh -NL /tmp/engine.sock:SOCKET HOST`, {variable}=unix:///tmp/engine.sock)"
        )
    if scheme != "https" and not os.environ.get("DOCKER_TLS_VERIFY"):
        return httpx.AsyncHTTPTransport(limits=limits), f"http://{address}"
    return httpx.AsyncHTTPTransport(verify=_tls(), limits=limits), f"https://{address}"


def _tls() -> ssl.SSLContext:
    folder = Path(os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
    try:
        context = ssl.create_default_context(cafile=folder / "ca.pem")
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    except (OSError, ssl.SSLError) as error:
        raise UserError(f"no usable certificates in {folder} ({error}); set DOCKER_CERT_PATH") from None
    return context


async def _lines(response: httpx.Response) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in response.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield line
    if rest.strip():
        yield rest


def _error(status: int, body: bytes) -> EngineError:
    try:
        message = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        message = body.decode("utf-8", "replace").strip() or f"status {status}"
    return EngineError(status, message)


def _quoted(name: str) -> str:
    return quote(name, safe="/:@")
