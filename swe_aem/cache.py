"""The cache directory: holds only what can be downloaded or made again."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """Root of the cache: `$SWE_AEM_CACHE`, else `swe-aem` in `$XDG_CACHE_HOME`, else `~/.cache/swe-aem`."""
    if own := os.environ.get("SWE_AEM_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "swe-aem"
