"""Recipes: the bundled ones, what is refused, and what a recipe takes from an sdist."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swe_aem.errors import UserError
from swe_aem.tasks.built import place_of
from swe_aem.tasks.load import bundled, load_tasks
from swe_aem.tasks.pypi.recipe import PackageRecipe, read_recipes
from swe_aem.tasks.pypi.sdist import read_codebase
from swe_aem.tasks.synthesis.codebase import Codebase

FILE = "shapes-1.0.tar.gz"
FILES = {
    "PKG-INFO": b"Name: shapes\n",
    "README.md": b"# shapes\n",
    "setup.cfg": b"[tool:pytest]\naddopts = --cov\n",
    "shapes/__init__.py": b"def area(a, b):\n    return a * b\n",
    "shapes/notes.txt": b"\xff",
    "tests/helper.py": b"X = 1\n",
    "tests/test_area.py": b"from shapes import area\n\n\ndef test_area():\n    assert area(2, 3) == 6\n",
}
Recipes = Callable[..., Path]


@pytest.fixture
def put(tmp_path: Path, recipe_of: Callable[..., Any], write_recipe: Callable[..., Path]) -> Recipes:
    """Puts a recipe with some fields changed into the set `mine`."""
    return lambda file=FILE, **fields: write_recipe(tmp_path / "mine", recipe_of(file, b"", **fields))


@pytest.fixture
def codebase(tmp_path: Path, recipe_of: Callable[..., Any], sdist: Callable[..., bytes]) -> Callable[..., Codebase]:
    """Reads the package by a recipe with some fields changed, from an archive with some files more."""

    def read(data: bytes | None = None, more: dict[str, bytes] | None = None, **fields: Any) -> Codebase:
        path = tmp_path / FILE
        path.write_bytes(sdist("shapes-1.0", {**FILES, **(more or {})}) if data is None else data)
        return read_codebase("mine", PackageRecipe.model_validate(recipe_of(FILE, b"", **fields)), path, "image:1")

    return read


def test_the_bundled_recipes_are_sound() -> None:
    directory = bundled("pypi")
    assert directory is not None
    recipes = read_recipes(directory)
    assert len(recipes) >= 10
    assert len({recipe.mutations.seed for recipe in recipes}) == 1
    allowed = {"MIT", "BSD-3-Clause", "BSD-2-Clause", "Apache-2.0", "ISC", "PSF-2.0"}
    assert {recipe.license for recipe in recipes} <= allowed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "1.1"}, "shapes-1.0.tar.gz is not the sdist of shapes 1.1"),
        ({"sdist": {"file": FILE, "sha256": "abc"}}, "sdist.sha256"),
        ({"sdist": {"file": "shapes.zip", "sha256": "0" * 64}}, "shapes.zip"),
        ({"wheels": [{"file": "x-1-cp311-cp311-linux_x86_64.whl", "sha256": "0" * 64}]}, "only wheels of pure Python"),
        ({"sources": ["/etc/*"]}, 'sources[0] is "/etc/*": give a string (that matches'),
        ({"sources": ["*.py"]}, "sources must name a module"),
        ({"mutations": {"per_package": 3}}, "mutations.per_package"),
        ({"colour": "red"}, "colour"),
        ({"name": "forms"}, "is not the sdist of forms"),
    ],
)
def test_refused(put: Recipes, change: dict[str, Any], message: str) -> None:
    path = put(**change)
    with pytest.raises(UserError, match=rf"{path.name}: ") as caught:
        read_recipes(path.parents[1])
    assert message in str(caught.value)


def test_a_recipe_is_called_as_its_package(put: Recipes) -> None:
    path = put()
    path.rename(path.with_name("other.yaml"))
    with pytest.raises(UserError, match=r"call it shapes\.yaml"):
        read_recipes(path.parents[1])


def test_no_recipes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="recipes"):
        read_recipes(tmp_path)


def test_packages_of_a_set_agree_on_their_wheels(put: Recipes) -> None:
    pins = [{"file": f"six-1.{minor}-py2.py3-none-any.whl", "sha256": "0" * 64} for minor in (16, 17)]
    put(wheels=[pins[0]])
    path = put("forms-1.0.tar.gz", name="forms", wheels=[pins[1]])
    with pytest.raises(UserError, match="share one image"):
        read_recipes(path.parents[1])


def test_an_agent_gets_what_the_recipe_names_and_no_configuration(codebase: Callable[..., Codebase]) -> None:
    read = codebase(support=["tests/*.py"])
    assert set(read.files) == {"README.md", "shapes/__init__.py", "tests/helper.py", "tests/test_area.py"}
    assert read.sources == ("shapes/__init__.py",)
    assert read.tests == ("tests/test_area.py",)
    assert read.restored == ("tests/helper.py", "tests/test_area.py")


def test_patterns_that_find_nothing(codebase: Callable[..., Codebase]) -> None:
    with pytest.raises(UserError, match=r"recipe shapes: no file of shapes-1\.0\.tar\.gz fits its tests"):
        codebase(tests=["test/*.py"])


def test_files_that_are_not_text(codebase: Callable[..., Codebase]) -> None:
    with pytest.raises(UserError, match="not UTF-8"):
        codebase(sources=["shapes/*"])


def test_lines_that_git_and_python_tell_apart_differently(codebase: Callable[..., Codebase]) -> None:
    assert codebase(more={"shapes/odd.py": b"x = 1\x0c\n"}).sources == ("shapes/__init__.py",)
    with pytest.raises(UserError, match="leave it out of the recipe"):
        codebase(more={"tests/test_odd.py": b"x = 1\r\n"})


def test_a_path_out_of_the_archive_is_passed_over(codebase: Callable[..., Codebase]) -> None:
    more = {"shapes/../../etc/x.py": b"x = 1\n", "/etc/cron.d/shapes/x.py": b"x = 1\n"}
    assert not any("etc" in path for path in codebase(more=more, keep=["*/shapes/x.py", "*etc/x.py"]).files)


def test_an_archive_that_is_none(codebase: Callable[..., Codebase]) -> None:
    with pytest.raises(UserError, match="not a readable archive"):
        codebase(b"what")


def test_a_set_that_is_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWE_AEM_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="`swe-aem tasks build "):
        load_tasks("pypi")


def test_other_recipes_have_another_place(put: Recipes) -> None:
    first = place_of(put().parents[1])
    assert place_of(put(cpu_s=3.0).parents[1]) != first
