"""Building a set from its recipes: one part per package, each stored when it is done, then the set of all parts."""

import asyncio
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from swe_aem.cache import cache_dir
from swe_aem.core import SandboxBackend
from swe_aem.core.base import Frozen
from swe_aem.core.scratch import scratch_directory
from swe_aem.errors import UserError
from swe_aem.runlog import holds_only_log, move_log
from swe_aem.sandbox.images.engine import connect
from swe_aem.tasks.built import RECIPES, place_of, set_name
from swe_aem.tasks.lock import LOCK_FILE
from swe_aem.tasks.packages import read_package
from swe_aem.tasks.pypi.image import check_image, ensure_image
from swe_aem.tasks.pypi.index import download
from swe_aem.tasks.pypi.prober import open_prober
from swe_aem.tasks.pypi.recipe import PackageRecipe, read_recipes
from swe_aem.tasks.pypi.sdist import read_codebase
from swe_aem.tasks.synthesis.codebase import Codebase
from swe_aem.tasks.synthesis.synth import Progress, codebase_rows, silent, split_rows, unchanged, write_rows
from swe_aem.tasks.tree import write_files

CLEAN_RUNS = 6
"""How often the clean suite is run; tests that do not pass every time are not used."""
ROWS_DIGESTS = "rows.sha256"
_FORMAT = b"1"
"""Part of a part's name; raise it when the same recipe makes other rows."""


class BuildConfig(Frozen):
    """Settings of one build."""

    directory: Path
    """Directory of the set, with its `recipes/*.yaml`."""
    index: str
    out: Path | None = None
    """Output directory; None: the place in the cache where `--tasks` finds it."""
    only: tuple[str, ...] = ()
    """Names of packages to use; all if empty."""
    jobs: int = os.cpu_count() or 1
    """Sandboxes at the same time. Does not change the result."""

    @property
    def name(self) -> str:
        """The set's name: the first part of its ids."""
        return set_name(self.directory)

    @property
    def image(self) -> str:
        """Image that the tests run in."""
        return f"swe-aem/{self.name}:1"


class Built(Frozen):
    """A set on the disk."""

    name: str
    place: Path
    rows: dict[str, dict[str, int]]
    """Number of rows by package, then by split."""
    digests: dict[str, str]
    """Id to the row's SHA-256."""


async def build(config: BuildConfig, backend: SandboxBackend, progress: Progress = silent) -> Built:
    """Build a set. An interrupted build resumes where it stopped.

    Raises `UserError` for a wrong recipe, an unreachable index, a missing engine; `InfrastructureError` if a sandbox
    or the engine fails.
    """
    recipes = read_recipes(config.directory)
    names = [recipe.name for recipe in recipes]
    if unknown := sorted(set(config.only) - set(names)):
        raise UserError(f"no recipe {', '.join(unknown)} in {config.directory / RECIPES}; it has {', '.join(names)}")
    if config.only and config.out is None:
        raise UserError("--only builds a part of the set: name its directory with --out")
    place = config.out or place_of(config.directory)
    _refuse_foreign(place)
    chosen = [recipe for recipe in recipes if not config.only or recipe.name in config.only]
    async with connect() as engine:
        wheels = {wheel.file: wheel for recipe in recipes for wheel in recipe.wheels}
        files = {name: await download(wheel, config.index) for name, wheel in sorted(wheels.items())}
        await ensure_image(engine, config.image, recipes, files)
    parts = {recipe.name: await _part(recipe, config, backend, progress) for recipe in chosen}
    rows = [row for part in parts.values() for row in _made_rows(part)]
    splits = split_rows(rows, names, recipes[0].mutations.seed)
    _assemble(place, parts, splits)
    return Built(
        name=config.name,
        place=place,
        rows={name: {split: _count(rows, name) for split, rows in splits.items()} for name in parts},
        digests={row["instance_id"]: row_digest(row) for rows in splits.values() for row in rows},
    )


def row_digest(row: dict[str, Any]) -> str:
    """SHA-256 of a row."""
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()


def _count(rows: Sequence[dict[str, Any]], package: str) -> int:
    return sum(row["package"] == package for row in rows)


def _made_rows(part: Path) -> list[dict[str, Any]]:
    """The rows that `write_rows` wrote for a part."""
    return [json.loads(line) for line in (part / "rows.jsonl").read_text(encoding="ascii").splitlines()]


async def _part(recipe: PackageRecipe, config: BuildConfig, backend: SandboxBackend, progress: Progress) -> Path:
    """Directory with the rows of one package and its clean files."""
    state = hashlib.sha256(_FORMAT + config.image.encode() + recipe.model_dump_json().encode()).hexdigest()[:16]
    await check_image(backend, config.image, recipe)  # also if the part exists: the image may have changed
    target = cache_dir() / "tasks" / "parts" / f"{recipe.name}-{state}"
    if target.is_dir():
        return target
    codebase = read_codebase(config.name, recipe, await download(recipe.sdist, config.index), config.image)
    target.parent.mkdir(parents=True, exist_ok=True)
    with scratch_directory("part", target.parent) as scratch:
        package = scratch / "package"
        write_files(package, codebase.files)
        write_rows(scratch / "rows.jsonl", await _rows(codebase, package, recipe, config, backend, progress))
        scratch.rename(target)
    return target


async def _rows(
    codebase: Codebase,
    tree: Path,
    recipe: PackageRecipe,
    config: BuildConfig,
    backend: SandboxBackend,
    progress: Progress,
) -> list[dict[str, Any]]:
    async with open_prober(codebase, tree, backend, config.jobs, recipe.cpu_s) as prober:
        runs = await prober.ask([unchanged(codebase)] * (CLEAN_RUNS // 2))
        passed = [set(run.passed) - set(run.failed) for run in runs if run is not None and run.collected]
        steady = set.intersection(*passed) if len(passed) == len(runs) else set()
        if not steady:
            raise UserError(f"recipe {recipe.name}: the tests of the clean package do not run, or their results vary")
        sound = replace(codebase, steady=frozenset(steady))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # warnings about third-party code, at each parse
            return await asyncio.to_thread(lambda: list(codebase_rows(sound, recipe.mutations, prober, progress)))


def _refuse_foreign(place: Path) -> None:
    if place.exists() and not (place / "packages").is_dir() and not (place.is_dir() and holds_only_log(place)):
        raise UserError(f"{place}: holds something else; name another directory with --out")


def _assemble(place: Path, parts: dict[str, Path], splits: dict[str, list[Any]]) -> None:
    """Write the set to a temporary directory and move it into place in one step."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with scratch_directory("set", place.parent) as scratch:
        for name, part in parts.items():
            write_files(scratch / "new" / "packages" / name, read_package(part / "package"))
        for split, rows in splits.items():
            if rows:
                write_rows(scratch / "new" / f"{split}.jsonl", rows)
        if place.exists():
            for lock in place.glob(f"*{LOCK_FILE}"):
                shutil.copy2(lock, scratch / "new")  # its entries name the rows that they are for
            move_log(place, scratch / "new")
            place.rename(scratch / "old")
        (scratch / "new").rename(place)
