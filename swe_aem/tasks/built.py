"""Where a set lies that is built from recipes: the recipes are a directory's, the set is the cache's."""

import hashlib
from pathlib import Path

from swe_aem.cache import cache_dir
from swe_aem.errors import UserError

RECIPES = "recipes"
_FORMAT = b"1"
"""Part of the place's name; raise it when the same recipes make other rows."""


def is_recipe_set(directory: Path) -> bool:
    """Is it a set that must be built?"""
    return (directory / RECIPES).is_dir()


def recipe_files(directory: Path) -> list[Path]:
    """Its recipes, sorted by name."""
    return sorted((directory / RECIPES).glob("*.yaml"))


def place_of(directory: Path) -> Path:
    """Where the set of these recipes lies once it is built; other recipes have another place."""
    state = hashlib.sha256(_FORMAT)
    for path in recipe_files(directory):
        state.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return cache_dir() / "tasks" / f"{directory.resolve().name}-{state.hexdigest()[:12]}"


def built_set(directory: Path) -> Path:
    """The built set; raises `UserError` that names the command if it was not built, or not of these recipes."""
    place = place_of(directory)
    if not place.is_dir():
        name = directory.resolve().name
        raise UserError(f"the set {name} is not built on this machine: `swe-aem tasks build {name}` makes it")
    return place
