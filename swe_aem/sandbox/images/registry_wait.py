"""Asks a registry directly, not through the engine, how long it wants clients to wait."""

import time
from email.utils import parsedate_to_datetime

import httpx

from swe_aem.sandbox.images.reference import Reference
from swe_aem.sandbox.images.registries import api_url

_TIMEOUT_S = 10.0


async def asked_wait_s(reference: Reference) -> float | None:
    """Seconds of the registry's Retry-After, which the engine does not pass on; None if there is none.

    Best effort: the registry may look different from here than from the engine, or ask for credentials first. A HEAD
    request does not count towards Docker Hub's limit (https://docs.docker.com/docker-hub/usage/pulls/).
    """
    url = f"{api_url(reference)}/manifests/{reference.digest or reference.tag}"
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S) as http:
            response = await http.head(url)
    except (httpx.HTTPError, httpx.InvalidURL):
        return None
    return parse_retry_after(response.headers.get("Retry-After")) if response.status_code == 429 else None


def parse_retry_after(value: str | None) -> float | None:
    """A Retry-After header in seconds: a number, or the date until which to wait (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
