"""Where sets that are built from recipes are kept: the recipes in a directory, the built set in the cache."""

import hashlib
import re
from pathlib import Path

from swe_aem.cache import cache_dir
from swe_aem.errors import UserError

RECIPES = "recipes"
_FORMAT = b"1"
"""Part of the directory's name; raise it when the same recipes make other rows."""


def is_recipe_set(directory: Path) -> bool:
    """Is the directory a set that must be built from recipes?"""
    return (directory / RECIPES).is_dir()


def set_name(directory: Path) -> str:
    """Name of the set: that of its directory. Raises `UserError` if an image cannot have that name."""
    name = directory.resolve().name
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise UserError(
            f"{directory}: rename the directory: a set's name has only lower-case letters, digits and hyphens"
        )
    return name


def recipe_files(directory: Path) -> list[Path]:
    """The set's recipe files, sorted by name."""
    return sorted((directory / RECIPES).glob("*.yaml"))


def place_of(directory: Path) -> Path:
    """Directory of the built set. It depends on the content of the recipes."""
    state = hashlib.sha256(_FORMAT)
    for path in recipe_files(directory):
        state.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return cache_dir() / "tasks" / f"{set_name(directory)}-{state.hexdigest()[:12]}"


def built_set(directory: Path) -> Path:
    """The built set; raises `UserError` with the command to run if it was not built from these recipes."""
    place = place_of(directory)
    if not place.is_dir():
        raise UserError(f"{directory}: the set is not built on this machine; run `swe-aem tasks build {directory}`")
    return place
