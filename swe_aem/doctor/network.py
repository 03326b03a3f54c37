"""Checks of the network: registries and hubs that commands download from."""

import os

from swe_aem.core.finding import Finding, ok, warn

_TIMEOUT_S = 4.0


def _reach(check: str, url: str, fix: str) -> Finding:
    import httpx

    try:
        code = httpx.get(url, timeout=_TIMEOUT_S, follow_redirects=True).status_code
    except httpx.HTTPError as error:
        return warn(check, f"{url} is not reached ({type(error).__name__})", fix)
    # A registry answers 401 without credentials; a proxy that forbids a host answers 403.
    if code < 400 or code == 401:
        return ok(check, f"{url} answers")
    return warn(check, f"{url} answers with {code}", fix)


def docker_hub() -> Finding:
    """The registry of published images."""
    fix = "for published images: docker login behind a proxy, or swe-aem images pull --mirror docker.io=HOST"
    return _reach("docker hub", "https://registry-1.docker.io/v2/", fix)


def huggingface() -> Finding:
    """The hub of data sets and models."""
    url = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    return _reach("hugging face", f"{url}/api/datasets?limit=1", "download data sets elsewhere, and name their files")


def pypi() -> Finding:
    """The package index."""
    return _reach("pypi", "https://pypi.org/simple/pip/", "set UV_INDEX_URL and PIP_INDEX_URL to a mirror")
