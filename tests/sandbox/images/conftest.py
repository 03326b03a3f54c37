"""A real registry on loopback, faults in front of it, and tiny images made on the spot."""

import base64
import contextlib
import io
import os
import re
import socket
import subprocess
import tarfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import docker
import httpx
import pytest
from docker.errors import ImageNotFound

from swe_aem.sandbox.images.pull import PullConfig
from swe_aem.sandbox.images.request_gate import Backoff

_UP_S = 60.0


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache for this test only, so that swe-aem owns nothing else on this engine, and no user configuration."""
    monkeypatch.setenv("SWE_AEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    for name in ("SWE_AEM_MIRRORS", "SWE_AEM_REGISTRIES", "DOCKER_AUTH_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def hasty() -> PullConfig:
    """Short pauses, so that everything is tried again soon."""
    backoff = Backoff(first_s=0.05, rate_limit_first_s=0.05, longest_s=0.2)
    return PullConfig(stall_s=60.0, image_s=120.0, attempts=3, rate_limit_s=60.0, backoff=backoff)


# -- the registry -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory, require_docker: None, registry_program: str) -> Iterator[str]:
    """`host:port` of Debian's docker-registry (or distribution's `registry`), storing below a temporary directory."""
    root, port = tmp_path_factory.mktemp("registry"), _free_port()
    config = root / "config.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {root / 'data'}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
    )
    command = [registry_program, "serve", str(config)]
    with (root / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            _wait_until_up(f"http://127.0.0.1:{port}/v2/", process)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


@pytest.fixture
def podman_of_registry(
    registry: str, require_podman: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A service of podman that takes the registry's plain HTTP; CONTAINER_HOST names it."""
    config, address = tmp_path / "registries.conf", tmp_path / "podman.sock"
    config.write_text(f'[[registry]]\nlocation = "{registry}"\ninsecure = true\n')
    command = ["podman", "system", "service", "--time", "0", f"unix://{address}"]
    environment = {**os.environ, "CONTAINERS_REGISTRIES_CONF": str(config)}
    environment.pop("CONTAINER_HOST", None)
    with (
        (tmp_path / "podman.log").open("w") as log,
        subprocess.Popen(command, stderr=log, env=environment, cwd=tmp_path) as process,
    ):
        try:
            end_s = time.monotonic() + _UP_S
            while not address.exists():
                assert process.poll() is None, (tmp_path / "podman.log").read_text()
                assert time.monotonic() < end_s
                time.sleep(0.05)
            monkeypatch.setenv("CONTAINER_HOST", f"unix://{address}")
            yield
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_up(url: str, process: subprocess.Popen[bytes]) -> None:
    end_s = time.monotonic() + _UP_S
    while True:
        try:
            httpx.get(url)
            return
        except httpx.TransportError:
            if process.poll() is not None or time.monotonic() > end_s:
                raise
            time.sleep(0.05)


# -- faults -----------------------------------------------------------------------------------------------------------


@dataclass
class Fault:
    """What happens to the first `times` requests whose path matches."""

    what: Literal["limit", "corrupt", "stall"]
    path: str
    times: int
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class FaultyProxy:
    """An HTTP server before the registry. `seen` are the paths of the requests, in order."""

    upstream: str
    address: str = ""
    faults: list[Fault] = field(default_factory=list)
    password: str | None = None
    """Ask for basic authentication of user `reader` with this password."""
    seen: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    """The Range headers of the requests that had one."""
    over: threading.Event = field(default_factory=threading.Event)
    news: threading.Condition = field(default_factory=threading.Condition)

    def add(self, what: Literal["limit", "corrupt", "stall"], path: str, times: int = 10**9, **headers: str) -> None:
        """Inject a fault; header names are written with underscores."""
        self.faults.append(Fault(what, path, times, {key.replace("_", "-"): value for key, value in headers.items()}))

    def wait_for(self, path: str) -> None:
        """Wait until a request whose path matches has come."""
        with self.news:
            assert self.news.wait_for(lambda: any(re.search(path, seen) for seen in self.seen), _UP_S)

    def due(self, path: str) -> Fault | None:
        """The fault that this request meets."""
        with self.news:
            self.seen.append(path)
            self.news.notify_all()
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyProxy

    def do_GET(self) -> None:
        expected = base64.b64encode(f"reader:{self.proxy.password}".encode()).decode()
        if self.proxy.password is not None and self.headers["Authorization"] != f"Basic {expected}":
            return self._answer(401, _error("UNAUTHORIZED"), {"WWW-Authenticate": 'Basic realm="test"'})
        fault = self.proxy.due(self.path)
        if fault is not None and fault.what == "limit":
            return self._answer(429, _error("TOOMANYREQUESTS"), fault.headers)
        headers = {key: value for key, value in self.headers.items() if key.lower() in ("accept", "range")}
        self.proxy.ranges += [value for key, value in headers.items() if key.lower() == "range"]
        answer = httpx.request(self.command, f"http://{self.proxy.upstream}{self.path}", headers=headers)
        body = answer.content
        if fault is not None and fault.what == "corrupt":
            body = bytes(byte ^ 0xFF for byte in body[:64]) + body[64:]
        kept = {key: answer.headers[key] for key in _KEPT if key in answer.headers}
        if fault is not None and fault.what == "stall":
            return self._stand_still(body, kept)
        return self._answer(answer.status_code, body, kept)

    def _stand_still(self, body: bytes, headers: dict[str, str]) -> None:
        """Send half an answer, and then nothing. (Engines of version 20.10 cannot abandon a blob before headers.)"""
        self._answer(200, body[: len(body) // 2], headers)
        self.wfile.flush()
        self.proxy.over.wait()
        self.close_connection = True

    do_HEAD = do_GET

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are in `FaultyProxy.seen`; the engine first tries TLS, which would be noise."""


_KEPT = (
    "content-length",
    "content-type",
    "docker-content-digest",
    "docker-distribution-api-version",
    "content-range",
    "etag",
)


def _error(code: str) -> bytes:
    return b'{"errors":[{"code":"%s","message":"%s"}]}' % (code.encode(), code.lower().encode())


@pytest.fixture
def open_proxy(registry: str) -> Iterator[Callable[[], FaultyProxy]]:
    """Starts proxies of the registry."""
    with contextlib.ExitStack() as stack:

        def start() -> FaultyProxy:
            proxy = FaultyProxy(upstream=registry)
            server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": proxy}))
            proxy.address = f"127.0.0.1:{server.server_port}"
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
            thread.start()
            server.daemon_threads = True
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            stack.callback(proxy.over.set)
            return proxy

        yield start


@pytest.fixture
def proxy(open_proxy: Callable[[], FaultyProxy]) -> FaultyProxy:
    """One proxy of the registry."""
    return open_proxy()


# -- images -----------------------------------------------------------------------------------------------------------


@dataclass
class Made:
    """A tiny image that the registry has and the engine does not."""

    repository: str
    tag: str
    id: str
    digest: str

    def at(self, registry: str) -> str:
        """Its name in a registry."""
        return f"{registry}/{self.repository}:{self.tag}"


@pytest.fixture
def make_image(registry: str) -> Iterator[Callable[..., Made]]:
    """Makes images and pushes them. At the end, all images with their names are removed from the engine."""
    client = docker.from_env()
    repositories: set[str] = set()

    def make(repository: str | None = None, tag: str = "1", files: dict[str, bytes] | None = None) -> Made:
        repository = repository or f"swe-aem-test/{uuid.uuid4().hex[:12]}"
        repositories.add(repository)
        name = f"{registry}/{repository}"
        client.api.import_image_from_data(_archive(files or {"payload": uuid.uuid4().bytes * 64}), name, tag)
        for line in client.api.push(name, tag, stream=True, decode=True):
            assert "error" not in line, line
        image = client.images.get(f"{name}:{tag}")
        digest = next(known for known in image.attrs["RepoDigests"] if known.startswith(name)).partition("@")[2]
        client.images.remove(f"{name}:{tag}")
        return Made(repository, tag, str(image.id), digest)

    yield make
    for image in client.api.images():  # `client.images.list()` asks for each, and one may be gone by then
        for name in [*(image["RepoTags"] or ()), *(image["RepoDigests"] or ())]:
            if any(repository in name for repository in repositories):
                with contextlib.suppress(ImageNotFound):
                    client.images.remove(name, force=True)
    client.close()


def _archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
