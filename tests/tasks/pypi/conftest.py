"""A package index on loopback, and a set with one small recipe whose sdist lies there."""

import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml


@dataclass
class Index:
    """What the index serves, and what it was asked for."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    truncated: bool = False
    failures: int = 0
    """So many requests get status 503 first."""


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """A running index with relative addresses, as mirrors have them; downloads go to a cache of the test's own."""
    monkeypatch.setenv("SWE_AEM_CACHE", str(tmp_path / "cache"))
    served = Index()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            *_, first, last = self.path.split("/")
            listed = [name for name in served.files if name.startswith(f"{first}-")]
            if served.failures:
                served.failures -= 1
                self.send_error(503)
            elif not last and listed:
                links = [{"filename": name, "url": f"../../files/{name}", "hashes": {}} for name in listed]
                self._answer(json.dumps({"files": links}).encode())
            elif last in served.files:
                self._answer(served.files[last], short=served.truncated)
            else:
                self.send_error(404)

        def _answer(self, body: bytes, *, short: bool = False) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if short else body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_address[1]}/simple/"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield served
    server.shutdown()
    server.server_close()


@pytest.fixture
def sdist() -> Callable[[str, Mapping[str, bytes]], bytes]:
    """Makes a source distribution of a top directory's name and files below it."""

    def make(name: str, files: Mapping[str, bytes]) -> bytes:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w:gz") as archive:
            for path, content in files.items():
                member = tarfile.TarInfo(f"{name}/{path}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return stream.getvalue()

    return make


@pytest.fixture
def recipe_of() -> Callable[..., dict[str, Any]]:
    """Makes a valid recipe of the package `shapes` 1.0, for an sdist's name and bytes, with other fields."""

    def make(file: str, data: bytes, **fields: Any) -> dict[str, Any]:
        return {
            "name": "shapes",
            "version": "1.0",
            "license": "MIT",
            "sdist": {"file": file, "sha256": hashlib.sha256(data).hexdigest()},
            "python": "3.11",
            "sources": ["shapes/*.py"],
            "tests": ["tests/test_*.py"],
            **fields,
        }

    return make


@pytest.fixture
def write_recipe() -> Callable[[Path, dict[str, Any]], Path]:
    """Puts a recipe into a set's directory."""

    def write(directory: Path, recipe: dict[str, Any]) -> Path:
        path = directory / "recipes" / f"{recipe['name']}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(recipe))
        return path

    return write
