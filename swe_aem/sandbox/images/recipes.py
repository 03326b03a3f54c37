"""Recipes in `sandboxes/`: a directory with `build.sh`, which builds from Debian packages, or from a registry's base
image (the `FROM` of its Dockerfile) when it is called with `--registry`.
"""

import asyncio
import os
import re
from pathlib import Path
from typing import NamedTuple

from swe_aem.errors import InfrastructureError, UserError
from swe_aem.sandbox.engines import EngineName
from swe_aem.sandbox.images.names import BUILT_HERE, FROM_HARBOR
from swe_aem.sandbox.images.pull import PullConfig, Want
from swe_aem.sandbox.images.reference import Reference
from swe_aem.sandbox.images.request_gate import Backoff

_PACKAGE = Path(__file__).resolve().parents[2]
_HOMES = (_PACKAGE.parent / "sandboxes", _PACKAGE / "bundled" / "sandboxes")
"""Directories with recipes: of a checkout, and of an installed wheel."""
_IMAGE = re.compile(r"^image=(\S+)$", re.MULTILINE)
_FROM = re.compile(r"^FROM\s+(?:--\S+\s+)*(\S+)", re.MULTILINE | re.IGNORECASE)

GLANCE = PullConfig(stall_s=20.0, attempts=1, rate_limit_s=0.0, image_s=600.0, backoff=Backoff(strikes=1))
"""Limits of the attempt to reach a registry before building without one."""


class ImageRecipe(NamedTuple):
    """What a directory of `sandboxes/` builds."""

    directory: Path
    image: str
    """The name that the image gets."""
    bases: tuple[Want, ...]
    """Images that a build with `--registry` starts from; empty if it cannot be built that way."""


def find_recipe(name: str) -> ImageRecipe:
    """The recipe of that name, or in that directory; raises `UserError` that lists the known ones."""
    candidates = [home / name for home in _HOMES] if "/" not in name else [Path(name).expanduser()]
    directory = next((path for path in candidates if (path / "build.sh").is_file()), None)
    if directory is None or not (found := _IMAGE.search((directory / "build.sh").read_text())):
        known = sorted({path.parent.name for home in _HOMES for path in home.glob("*/build.sh") if _names_image(path)})
        raise UserError(
            f"no recipe {name!r}: there are {', '.join(known) or 'none'}; or name a directory with a build.sh "
            "that has a line image=NAME"
        )
    dockerfile = directory / "Dockerfile"
    bases = _FROM.findall(dockerfile.read_text()) if dockerfile.is_file() else []
    wants = tuple(Want(reference=Reference.parse(base)) for base in bases if base != "scratch")
    return ImageRecipe(directory=directory, image=found.group(1), bases=wants)


def recipe_of(image: str) -> ImageRecipe | None:
    """The recipe that makes an image of that name, if there is one."""
    paths = sorted(path for home in _HOMES for path in home.glob("*/build.sh"))
    made = (find_recipe(path.parent.name) for path in paths if _names_image(path))
    return next((recipe for recipe in made if recipe.image == image), None)


def of_engine(engine: EngineName) -> str:
    """The option that makes a command about images one about those of an engine; empty for the default."""
    return "" if engine == "docker" else f" --engine {engine}"


def how_to_get(image: str, engine: EngineName = "docker") -> str:
    """The command that brings an image onto the engine."""
    option = of_engine(engine)
    if image.startswith(FROM_HARBOR):
        return f"`swe-aem images build --tasks DIR{option}`, DIR being the directory of the task's folder"
    if (recipe := recipe_of(image)) is not None:
        return f"`swe-aem images build {recipe.directory.name}{option}`"
    if image.startswith(BUILT_HERE):
        made = "`swe-aem tasks build SET`, SET being the set of its tasks"
        return made if engine == "docker" else f"{made}, and then `docker save {image} | {engine} load`"
    return f"`swe-aem images pull {image}{option}`"


async def build(recipe: ImageRecipe, engine: EngineName, *, from_registry: bool) -> None:
    """Run a recipe with its output on this process's terminal; raises `InfrastructureError` if it fails."""
    command = [str(recipe.directory / "build.sh"), *(["--registry"] if from_registry else [])]
    process = await asyncio.create_subprocess_exec(*command, env={**os.environ, "SWE_AEM_ENGINE": engine})
    try:
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    if code != 0:
        raise InfrastructureError(f"{' '.join(command)} failed with exit code {code}")


def _names_image(path: Path) -> bool:
    return bool(_IMAGE.search(path.read_text()))
