"""Downloads of pinned files from a package index, through the simple API in JSON (PEP 691)."""

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx

from swe_aem.cache import cache_dir
from swe_aem.core.scratch import scratch_directory
from swe_aem.errors import InfrastructureError, UserError
from swe_aem.tasks.pypi.recipe import Pin

PYPI = "https://pypi.org/simple"
_ATTEMPTS = 3
_PAUSE_S = 1.0
"""Seconds to wait after the first failure; doubled after each further one."""
_TIMEOUT = httpx.Timeout(60.0, connect=15.0)
_JSON = "application/vnd.pypi.simple.v1+json"


def default_index() -> str:
    """The index URL: `PIP_INDEX_URL`, as for pip, else PyPI."""
    return os.environ.get("PIP_INDEX_URL") or PYPI


async def download(pin: Pin, index: str) -> Path:
    """A pinned file in the cache, downloaded if it is not there.

    Raises `UserError` if the index does not answer, does not have the file, or has another file of that name.
    """
    target = cache_dir() / "downloads" / pin.sha256 / pin.file
    if target.is_file():
        return target
    async with httpx.AsyncClient(follow_redirects=True, timeout=_TIMEOUT) as http:
        data = await _patiently(pin, index, http)
    found = hashlib.sha256(data).hexdigest()
    if found != pin.sha256:
        raise UserError(f"{pin.file} from {index} has sha256 {found}, the recipe wants {pin.sha256}")
    _write(target, data)
    return target


async def _patiently(pin: Pin, index: str, http: httpx.AsyncClient) -> bytes:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return await _get(pin, index, http)
        except httpx.HTTPError as error:
            status = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else None
            if status == 404:
                raise UserError(f"{index} has no project {pin.project}, of which {pin.file} is needed") from None
            if attempt == _ATTEMPTS or (status is not None and status < 500 and status != 429):
                raise UserError(
                    f"{pin.file} could not be downloaded from {index}: {error or type(error).__name__}; check the "
                    "network, or name a mirror with --index-url or PIP_INDEX_URL"
                ) from None
            await asyncio.sleep(_PAUSE_S * 2 ** (attempt - 1))
    raise AssertionError("unreachable: the last attempt returns or raises")


async def _get(pin: Pin, index: str, http: httpx.AsyncClient) -> bytes:
    page = (await http.get(f"{index.rstrip('/')}/{pin.project}/", headers={"Accept": _JSON})).raise_for_status()
    try:
        listed: list[dict[str, Any]] = page.json()["files"]
        urls = [file["url"] for file in listed if file["filename"] == pin.file]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{index} does not answer in the JSON of PEP 691; name another index") from None
    if not urls:
        raise UserError(f"{index} has no file {pin.file}; it was removed, or this mirror lacks it")
    return (await http.get(urljoin(str(page.url), urls[0]))).raise_for_status().content


def _write(target: Path, data: bytes) -> None:
    """Write the file in one step."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with scratch_directory("download", target.parent) as scratch:
            draft = scratch / target.name
            draft.write_bytes(data)
            draft.rename(target)
    except (InfrastructureError, OSError) as error:
        raise UserError(
            f"{target.parent}: cannot be written ({error}); free some space, or set SWE_AEM_CACHE"
        ) from error
