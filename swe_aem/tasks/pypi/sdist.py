"""Reads a source distribution into a `Codebase`."""

import tarfile
from pathlib import Path

from swe_aem.errors import UserError
from swe_aem.tasks.pypi.recipe import PackageRecipe, matches
from swe_aem.tasks.synthesis.codebase import Codebase


def read_codebase(family: str, recipe: PackageRecipe, sdist: Path, image: str) -> Codebase:
    """The files that the recipe names; raises `UserError` if one of its patterns finds none."""
    files = _read_files(recipe, sdist)
    tests = tuple(path for path in files if matches(path, recipe.tests))
    sources = recipe.modules([path for path in files if _is_plain(files[path])])
    for what, found in (("sources", sources), ("tests", tests)):
        if not found:
            raise UserError(f"recipe {recipe.name}: no file of {sdist.name} fits its {what}")
    odd = [path for path in tests if not _is_plain(files[path])]
    if odd:
        raise UserError(
            f"recipe {recipe.name}: {odd[0]} has line ends other than a line feed; leave it out of the recipe's tests"
        )
    return Codebase(
        family=family,
        name=recipe.name,
        files=files,
        image=image,
        sources=sources,
        tests=tests,
        restored=tuple(path for path in files if matches(path, (*recipe.tests, *recipe.support))),
        version=recipe.version,
    )


def _read_files(recipe: PackageRecipe, sdist: Path) -> dict[str, str]:
    files: dict[str, str] = {}
    try:
        with tarfile.open(sdist) as archive:
            for member in archive:
                path = member.name.partition("/")[2]
                if not member.isfile() or not _stays_inside(path) or not recipe.has(path):
                    continue
                content = archive.extractfile(member)
                assert content is not None  # it is a file
                files[path] = content.read().decode()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"recipe {recipe.name}: {sdist} is not a readable archive: {error}") from None
    except UnicodeDecodeError:
        raise UserError(
            f"recipe {recipe.name}: a file of {sdist.name} is not UTF-8; name files more narrowly"
        ) from None
    return dict(sorted(files.items()))


def _stays_inside(path: str) -> bool:
    return not {"", ".", ".."}.intersection(path.split("/"))


def _is_plain(text: str) -> bool:
    """Do all of Python's notions of a line agree on this text, and does it end with one?"""
    return text.splitlines() == text.split("\n")[:-1]
