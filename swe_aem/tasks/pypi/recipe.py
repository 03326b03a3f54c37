"""`PackageRecipe`: one package of a set, read from a YAML file in the set's `recipes` directory."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename
from pydantic import Field, model_validator

from swe_aem.core.base import Frozen
from swe_aem.errors import UserError
from swe_aem.tasks.built import RECIPES, recipe_files
from swe_aem.tasks.synthesis.mutate import KINDS
from swe_aem.tasks.synthesis.synth import Sizes
from swe_aem.tasks.yaml_text import parse_yaml

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Glob = Annotated[str, Field(pattern=r"^[\w*?\[][\w.*?\[\]/-]*$")]


class Pin(Frozen):
    """One file on the index, with its hash."""

    file: str
    sha256: Sha256

    @property
    def project(self) -> str:
        """Normalised name of its project; raises `ValueError` if the file name is neither an sdist's nor a wheel's."""
        try:
            if self.file.endswith(".whl"):
                return parse_wheel_filename(self.file)[0]
            return parse_sdist_filename(self.file)[0]
        except (InvalidSdistFilename, InvalidWheelFilename) as error:
            raise ValueError(str(error)) from None


class Mutations(Sizes):
    """Which bugs are made, and how many."""

    per_package: int = Field(default=2 * len(KINDS), ge=len(KINDS))
    per_function: int = Field(default=2, ge=1)
    tries: int | None = 40
    modules: tuple[Glob, ...] = ("*",)
    """Source files that bugs are made in."""


class PackageRecipe(Frozen):
    """One package: where it comes from, how it is laid out, how it is tested, and which bugs it gets."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    version: str
    sdist: Pin
    python: Annotated[str, Field(pattern=r"^3\.\d+$")]
    """Version of Python that the image must have."""
    license: str
    """SPDX expression of the package's licence."""
    import_root: str = "."
    """Directory that is put on Python's path to install the package."""
    sources: tuple[Glob, ...]
    """Python files of the package."""
    tests: tuple[Glob, ...]
    """Test files: what `python -m pytest` is given."""
    support: tuple[Glob, ...] = ()
    """Helpers and data of the tests. They are restored before every evaluation, like the tests."""
    keep: tuple[Glob, ...] = ("README*", "LICEN[CS]E*")
    """Further files of the sdist that an agent sees."""
    wheels: tuple[Pin, ...] = ()
    """Distributions that the tests import, other than the package and pytest."""
    cpu_s: float = Field(default=6.0, gt=0)
    """Processor seconds for a run of the tests while bugs are tried; the wall clock may take ten times as long."""
    mutations: Mutations = Mutations()

    @model_validator(mode="after")
    def _check(self) -> "PackageRecipe":
        project, version = parse_sdist_filename(self.sdist.file)
        if project != self.name or str(version) != self.version:
            raise ValueError(f"{self.sdist.file} is not the sdist of {self.name} {self.version}")
        for wheel in self.wheels:
            if not wheel.file.endswith("-none-any.whl"):
                raise ValueError(f"{wheel.file}: only wheels of pure Python")
            _ = wheel.project
        if odd := [name for name in self.import_names if not name.isidentifier()]:
            raise ValueError(f"sources must name a module or package first, not {odd[0]!r}")
        return self

    def has(self, path: str) -> bool:
        """Does an agent see this file of the sdist?"""
        return any(matches(path, globs) for globs in (self.sources, self.tests, self.support, self.keep))

    def modules(self, paths: list[str]) -> tuple[str, ...]:
        """The given paths that bugs are made in."""
        return tuple(
            path
            for path in paths
            if path.endswith(".py")
            and matches(path, self.sources)
            and matches(path, self.mutations.modules)
            and not matches(path, (*self.tests, *self.support))
        )

    @property
    def import_names(self) -> tuple[str, ...]:
        """Top-level modules and packages that the sources define."""
        prefix = "" if self.import_root == "." else f"{self.import_root}/"
        first = {glob.removeprefix(prefix).partition("/")[0].removesuffix(".py") for glob in self.sources}
        return tuple(sorted(first))


def matches(path: str, globs: tuple[str, ...]) -> bool:
    """Does a path fit one of the patterns? `*` also matches slashes."""
    return any(fnmatchcase(path, glob) for glob in globs)


def read_recipes(directory: Path) -> list[PackageRecipe]:
    """The recipes of a set, sorted by name; raises `UserError` that names file and field."""
    recipes = [_read(path) for path in recipe_files(directory)]
    if not recipes:
        raise UserError(f"{directory}: has no {RECIPES}/*.yaml")
    pinned: dict[str, tuple[Pin, str]] = {}
    for recipe in recipes:
        for wheel in recipe.wheels:
            known, where = pinned.setdefault(wheel.project, (wheel, recipe.name))
            if known != wheel:
                raise UserError(
                    f"{directory}: {where} pins {known.file}, {recipe.name} pins {wheel.file}; all packages of a set "
                    "share one image, so give them the same"
                )
    return recipes


def _read(path: Path) -> PackageRecipe:
    recipe = parse_yaml(path.read_text(encoding="utf-8"), PackageRecipe, str(path))
    if path.stem != recipe.name:
        raise UserError(f"{path}: is the recipe of {recipe.name}; call it {recipe.name}.yaml")
    return recipe
