"""Marks of starts that are prepared so quickly that no layer is kept for them: one file each, in the cache."""

import time
from pathlib import Path

from swe_aem.cache import cache_dir

QUICK_LIFE_S = 30 * 86400.0
"""A mark that is older is removed by `swe-aem images gc`; the start is then measured again."""


def _marks() -> Path:
    return cache_dir() / "layers" / ".quick"


def is_quick(key: str) -> bool:
    """Was this start prepared so quickly that no layer was kept?"""
    return (_marks() / key).exists()


def mark_quick(key: str) -> None:
    """Note that this start needs no layer; raises `OSError`."""
    path = _marks() / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def sweep_quick_marks() -> None:
    """Remove the marks that are past `QUICK_LIFE_S`."""
    for path in _marks().glob("*"):
        if time.time() - path.stat().st_mtime > QUICK_LIFE_S:
            path.unlink(missing_ok=True)
