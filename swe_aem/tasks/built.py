"""Where a set lies that is built from recipes: the recipes are a directory's, the set is the cache's."""

import hashlib
import re
from pathlib import Path

from swe_aem.cache import cache_dir
from swe_aem.errors import UserError

RECIPES = "recipes"
_FORMAT = b"1"
"""Part of the place's name; raise it when the same recipes make other rows."""


def is_recipe_set(directory: Path) -> bool:
    """Is it a set that must be built?"""
    return (directory / RECIPES).is_dir()


def set_name(directory: Path) -> str:
    """Name of the set: its directory's. Raises `UserError` if no image could be called so."""
    name = directory.resolve().name
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise UserError(f"{directory}: a set's directory has a name of small letters, digits and hyphens")
    return name


def recipe_files(directory: Path) -> list[Path]:
    """Its recipes, sorted by name."""
    return sorted((directory / RECIPES).glob("*.yaml"))


def place_of(directory: Path) -> Path:
    """Where the set of these recipes lies once it is built; other recipes have another place."""
    state = hashlib.sha256(_FORMAT)
    for path in recipe_files(directory):
        state.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return cache_dir() / "tasks" / f"{set_name(directory)}-{state.hexdigest()[:12]}"


def built_set(directory: Path) -> Path:
    """The built set; raises `UserError` that names the command if it was not built, or not of these recipes."""
    place = place_of(directory)
    if not place.is_dir():
        raise UserError(
            f"{directory}: the set is not built on this machine; `swe-aem tasks build {directory}` makes it"
        )
    return place
