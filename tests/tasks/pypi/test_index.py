"""Downloads: from a real server on loopback, and everything that can be wrong with one."""

import hashlib
import socket
from pathlib import Path
from typing import Any

import pytest

from swe_aem.errors import UserError
from swe_aem.tasks.pypi.index import download
from swe_aem.tasks.pypi.recipe import Pin

DATA = b"some bytes" * 1000
PIN = Pin(file="shapes-1.0.tar.gz", sha256=hashlib.sha256(DATA).hexdigest())


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause between two attempts."""
    monkeypatch.setattr("swe_aem.tasks.pypi.index._PAUSE_S", 0.0)


@pytest.fixture
def full_index(index: Any) -> Any:
    """The index with the file."""
    index.files[PIN.file] = DATA
    return index


async def test_downloaded_once(full_index: Any) -> None:
    path = await download(PIN, full_index.url)
    assert path.read_bytes() == DATA
    assert await download(PIN, full_index.url) == path
    assert full_index.asked == ["/simple/shapes/", "/files/shapes-1.0.tar.gz"]


async def test_a_server_that_recovers(full_index: Any) -> None:
    full_index.failures = 1
    assert (await download(PIN, full_index.url)).read_bytes() == DATA


async def _refused(pin: Pin, url: str, cache: Path) -> str:
    with pytest.raises(UserError) as caught:
        await download(pin, url)
    assert not [path for path in cache.rglob("*") if path.is_file()]
    return str(caught.value)


async def test_another_file_of_that_name(full_index: Any, tmp_path: Path) -> None:
    full_index.files[PIN.file] = b"evil"
    assert f"the recipe wants {PIN.sha256}" in await _refused(PIN, full_index.url, tmp_path / "cache")


async def test_no_such_project(index: Any, tmp_path: Path) -> None:
    assert "has no project shapes" in await _refused(PIN, index.url, tmp_path / "cache")


async def test_no_such_file(full_index: Any, tmp_path: Path) -> None:
    pin = PIN.model_copy(update={"file": "shapes-2.0.tar.gz"})
    assert "has no file shapes-2.0.tar.gz" in await _refused(pin, full_index.url, tmp_path / "cache")


async def test_cut_short(full_index: Any, tmp_path: Path) -> None:
    full_index.truncated = True
    assert "could not be downloaded" in await _refused(PIN, full_index.url, tmp_path / "cache")
    full_index.truncated = False
    assert (await download(PIN, full_index.url)).read_bytes() == DATA


async def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWE_AEM_CACHE", str(tmp_path / "cache"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/simple"
        assert "--index-url" in await _refused(PIN, url, tmp_path / "cache")
